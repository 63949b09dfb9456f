// Command gen writes the assembly of package asm:
//
//	cd kernels/internal/gen && go run .
//
// Every routine is generated twice, for AVX2 with FMA and for AVX-512, from one description, so that both do the same
// roundings in the same order. What a routine computes is written out as Go in ../asm/generic.go.
package main

import (
	"bytes"
	"flag"
	"log"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

// outputs are the generated files, by avo's flag for each.
var outputs = map[string]string{"out": "../asm/kernels_amd64.s", "stubs": "../asm/stubs_amd64.go", "pkg": "asm"}

func main() {
	for name, value := range outputs {
		if err := flag.Set(name, value); err != nil {
			log.Fatal(err)
		}
	}
	ConstraintExpr("!noasm")
	for _, l := range []*level{avx2, avx512} {
		tiles(l)
		blockTiles(l)
		packs(l)
		roundings(l)
		vectors(l)
		limits(l)
	}
	units()
	Generate()

	// avo takes the generator for a single file.
	for _, name := range []string{"out", "stubs"} {
		text, err := os.ReadFile(outputs[name])
		if err != nil {
			log.Fatal(err)
		}
		text = bytes.Replace(text, []byte("command: go run main.go"), []byte("command: (cd kernels/internal/gen && go run .)"), 1)
		text = encodeDots(text)
		if err := os.WriteFile(outputs[name], text, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
