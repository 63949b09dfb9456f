package prompts

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// Rows lie in a spool in a form of their own, which is read back a tenth as dear as the JSON that they came as.

// appendTo packs the rows of a prompt.
func (g group) appendTo(out []byte) []byte {
	out = append(out, g.id[:]...)
	out = binary.AppendUvarint(out, uint64(len(g.rows)))
	for i := range g.rows {
		r := &g.rows[i]
		for _, text := range r.texts() {
			out = binary.AppendUvarint(out, uint64(len(*text)))
			out = append(out, *text...)
		}
		for _, flag := range r.flags() {
			out = append(out, map[bool]byte{true: 1}[*flag])
		}
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(r.outcome))
		out = binary.AppendVarint(out, int64(r.firstError))
		for _, list := range r.lists() {
			out = appendList(out, *list, func(out []byte, x int32) []byte { return binary.AppendVarint(out, int64(x)) })
		}
		out = appendList(out, r.logProbs, func(out []byte, x float32) []byte {
			return binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		})
	}
	return out
}

func (r *promptRow) texts() []*string {
	return []*string{&r.prompt, &r.answer, &r.extra, &r.messages, &r.response, &r.difficulty, &r.id, &r.finish}
}

func (r *promptRow) flags() []*bool { return []*bool{&r.hasAnswer, &r.hasExtra, &r.hasOutcome} }

func (r *promptRow) lists() []*[]int32 {
	return []*[]int32{&r.stepBytes, &r.promptTokens, &r.responseTokens, &r.lossMask}
}

// appendList packs a list with one more than its length; 0 is none, which is another than an empty one.
func appendList[T any](out []byte, list []T, one func([]byte, T) []byte) []byte {
	if list == nil {
		return append(out, 0)
	}
	out = binary.AppendUvarint(out, uint64(len(list))+1)
	for _, x := range list {
		out = one(out, x)
	}
	return out
}

// groupOf unpacks what appendTo has packed.
func groupOf(raw []byte) (g group, err error) {
	u := &unpacker{raw: raw, text: string(raw)} // of which all texts are parts
	copy(g.id[:], u.take(len(g.id)))
	g.short = shortID(g.id)
	g.rows = make([]promptRow, min(u.count(), uint64(len(raw))))
	for i := range g.rows {
		r := &g.rows[i]
		for _, text := range r.texts() {
			n := u.count()
			from := u.at
			u.take(int(min(n, math.MaxInt32)))
			*text = u.text[from:u.at]
		}
		for _, flag := range r.flags() {
			*flag = u.take(1)[0] == 1
		}
		r.outcome = u.float()
		r.firstError = u.integer()
		for _, list := range r.lists() {
			*list = listOf(u, u.integer)
		}
		r.logProbs = listOf(u, u.float)
	}
	if u.bad || u.at != len(raw) {
		return group{}, errors.New("the temporary file of a source holds other bytes than were written to it")
	}
	return g, nil
}

// unpacker reads on from at. What is not there is zero, and bad.
type unpacker struct {
	raw  []byte
	text string
	at   int
	bad  bool
}

func (u *unpacker) take(n int) []byte {
	if n > len(u.raw)-u.at {
		u.bad, u.at = true, len(u.raw)
		return make([]byte, min(n, 16))
	}
	u.at += n
	return u.raw[u.at-n : u.at]
}

func (u *unpacker) count() uint64 {
	x, n := binary.Uvarint(u.raw[u.at:])
	u.bad, u.at = u.bad || n <= 0, u.at+max(n, 0)
	return x
}

func (u *unpacker) integer() int32 {
	x, n := binary.Varint(u.raw[u.at:])
	u.bad, u.at = u.bad || n <= 0, u.at+max(n, 0)
	return int32(x)
}

func (u *unpacker) float() float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(u.take(4)))
}

func listOf[T any](u *unpacker, one func() T) []T {
	n := u.count()
	if n == 0 || n > uint64(len(u.raw)) {
		u.bad = u.bad || n > 0
		return nil
	}
	out := make([]T, n-1)
	for i := range out {
		out[i] = one()
	}
	return slices.Clip(out)
}
