// Command gen writes the assembly of package asm:
//
//	cd kernels/internal/gen && go run . -out ../asm/kernels_amd64.s -stubs ../asm/stubs_amd64.go -pkg asm
//
// Every routine is generated twice, for AVX2 with FMA and for AVX-512, from one description, so that both do the same
// roundings in the same order. What a routine computes is written out as Go in ../asm/generic.go.
package main

import (
	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("!noasm")
	for _, l := range []*level{avx2, avx512} {
		tiles(l)
		packs(l)
		vectors(l)
		limits(l)
	}
	Generate()
}
