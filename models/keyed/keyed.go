// Package keyed draws random numbers that depend on a key alone: the same key gives the same number on any machine, in any
// order, on any number of threads.
//
// A key is a chain of 64-bit words, each mixed in by the finaliser of splitmix64 (Steele, Lea and Flood, Fast Splittable
// Pseudorandom Number Generators, OOPSLA 2014).
package keyed

import (
	"encoding/binary"
	"math"
)

// Key is a place in the tree of all keys.
type Key uint64

const golden = 0x9e3779b97f4a7c15

// New starts a key from a seed.
func New(seed uint64) Key { return Key(mix(seed)) }

// With is the key extended by a word.
func (k Key) With(word uint64) Key { return Key(mix(uint64(k)*golden ^ mix(word))) }

// WithBytes is the key extended by 16 bytes, such as a UUID.
func (k Key) WithBytes(id [16]byte) Key {
	return k.With(binary.BigEndian.Uint64(id[:8])).With(binary.BigEndian.Uint64(id[8:]))
}

// Uniform is the number of this key, uniform in [0,1) with 53 random bits.
func (k Key) Uniform() float64 { return float64(mix(uint64(k))>>11) / (1 << 53) }

// Word is the i-th output of splitmix64 seeded with the key: 64 random bits, for streams where With costs too much.
func (k Key) Word(i uint64) uint64 { return mix(uint64(k) + i*golden) }

// Normal is the standard normal number of this key (Box and Muller, 1958).
func (k Key) Normal() float64 {
	u := (float64(mix(uint64(k.With(0)))>>11) + 0.5) / (1 << 53)
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*k.With(1).Uniform())
}

// mix is one output of splitmix64 seeded with x.
func mix(x uint64) uint64 {
	x += golden
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
