// Package kernels does the arithmetic of the models in single precision: numbers in, numbers out.
//
// # The same bits
//
// Every element of every result has one order of accumulation, which depends on nothing but the length of its reduction:
// not on the other rows of a batch, not on the number of threads, not on whether a token is computed by decoding or by the
// forward pass over its whole sequence. A matrix product adds over k in order, starting from beta·C, so gradients
// accumulated over microbatches equal those of one large batch. Sums over a row use 32 partial sums, element i in partial
// sum i mod 32, folded by halving. The levels avx2 and avx512 give identical bits; generic rounds products before it adds
// them and differs in the last place.
//
// # Errors
//
// Lengths are checked here, once; a wrong one is a mistake of the program and panics with a constant string. NaN and
// infinities flow through as in IEEE arithmetic.
//
// # Attention caches
//
// Keys and values are kept token-major, [tokens, kvHeads·headDim]: a cache is appended to by copying one row, and a prompt
// prefix shared by several sequences is copied or aliased as whole rows.
package kernels
