package schemas

import (
	"bytes"
	"reflect"
	"testing"
	"unsafe"

	"github.com/google/uuid"
)

func rollouts(t testing.TB) Record {
	t.Helper()
	a, b := uuid.NewSHA1(uuid.Nil, []byte("a")), uuid.NewSHA1(uuid.Nil, []byte("b"))
	ids := []uuid.UUID{a, a, b}
	resp := []uuid.UUID{uuid.NewSHA1(a, []byte{0}), uuid.NewSHA1(a, []byte{1}), uuid.NewSHA1(b, []byte{0})}
	r, err := NewRecord(Meta{Run: "r", Iteration: 3, Seed: 7},
		PromptID.From(ids), ResponseID.From(resp),
		Response.From([]string{"x", "", "yz"}),
		Outcome.From([]float32{1, 0, 0}, true, false, true),
		GroupValid.From([]bool{true, false, true}),
		ResponseTokens.FromRows([][]int32{{1, 2}, nil, {3}}),
		OldLogP.FromRows([][]float32{{-1, -2}, nil, {-3}}, true, false, true).Defined(FullLogP("m1")),
		CandidateIDs.FromRows([][][]int32{{{1, 5}, {2}}, nil, {{3, 4, 5}}}))
	if err != nil {
		t.Fatal(err)
	}
	return r.WithLineage("policy:m1", OldLogP)
}

func TestViews(t *testing.T) {
	full := rollouts(t)
	raw, err := full.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back Record
	if err := back.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]Record{"built": full, "decoded": back} {
		tail := r.Slice(1, 3)
		if got := ResponseTokens.Of(tail).Row(1); !reflect.DeepEqual(got, []int32{3}) {
			t.Errorf("%s: response_tokens of the last row = %v", name, got)
		}
		if got := CandidateIDs.Of(tail).Row(1).Row(0); !reflect.DeepEqual(got, []int32{3, 4, 5}) {
			t.Errorf("%s: candidate_ids of the last row = %v", name, got)
		}
		if v := CandidateIDs.Of(r).Row(0); v.Len() != 2 || !reflect.DeepEqual(v.Row(1), []int32{2}) {
			t.Errorf("%s: candidate_ids of the first row = %+v", name, v)
		}
		if _, ok := Outcome.Of(tail).At(0); ok {
			t.Errorf("%s: a null outcome is there", name)
		}
		if v, ok := Outcome.Of(r).At(0); !ok || v != 1 {
			t.Errorf("%s: outcome = %v, %v", name, v, ok)
		}
		if OldLogP.Of(tail).Valid(0) || !OldLogP.Of(tail).Valid(1) {
			t.Errorf("%s: validity of old_logp is wrong", name)
		}
		if Response.Of(tail).At(1) != "yz" || GroupValid.Of(tail).At(0) || !GroupValid.Of(tail).At(1) {
			t.Errorf("%s: text or flag is wrong", name)
		}
		if got, want := PromptID.Of(tail), PromptID.Of(full)[1:]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: prompt_id = %v, want %v", name, got, want)
		}
		if d, ok := LogPOf(r, OldLogP); !ok || d != FullLogP("m1") {
			t.Errorf("%s: definition of old_logp = %v, %v", name, d, ok)
		}
		if m := r.Meta(); m.Run != "r" || m.Iteration != 3 || m.Seed != 7 || m.Lineage["old_logp"] != "policy:m1" {
			t.Errorf("%s: metadata %+v", name, m)
		}
		if gs, err := r.Groups(); err != nil || len(gs) != 2 || gs[0].Len() != 2 || gs[1].Lo != 2 {
			t.Errorf("%s: groups %v, %v", name, gs, err)
		}
	}
}

// The bytes of rows must not depend on the record they were cut from.
func TestBytesOfASlice(t *testing.T) {
	r := rollouts(t)
	for lo := range 3 {
		for hi := lo; hi <= 3; hi++ {
			cut := r.Slice(lo, hi)
			var rows []int
			for i := lo; i < hi; i++ {
				rows = append(rows, i)
			}
			a, err := cut.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			var back Record
			if err := back.UnmarshalBinary(a); err != nil {
				t.Fatalf("rows %d to %d: %v", lo, hi, err)
			}
			if n := r.SizeOf(lo, hi); n != cut.Size() || n != back.Size() || lo < hi && n < 16*(hi-lo) {
				t.Errorf("rows %d to %d take %d bytes, cut out %d, and read back %d", lo, hi, n, cut.Size(), back.Size())
			}
			b, err := back.MarshalBinary()
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("rows %d to %d: other bytes after a round trip (%v)", lo, hi, err)
			}
			if len(rows) == 0 {
				continue
			}
			halves := make([]Record, len(rows))
			for i, row := range rows {
				halves[i] = r.Slice(row, row+1)
			}
			joined, err := Append(halves...)
			if err != nil {
				t.Fatal(err)
			}
			if c, err := joined.MarshalBinary(); err != nil || !bytes.Equal(a, c) {
				t.Errorf("rows %d to %d: other bytes when joined of single rows (%v)", lo, hi, err)
			}
		}
	}
}

func TestGroupsApart(t *testing.T) {
	r, err := rollouts(t).Take([]int{0, 2, 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Groups(); err == nil {
		t.Error("rows of one prompt that lie apart were accepted")
	}
}

func FuzzUnmarshal(f *testing.F) {
	r := rollouts(f)
	for _, rec := range []Record{r, r.Slice(1, 3), r.Slice(0, 0), {}} {
		raw, err := rec.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Record
		if r.UnmarshalBinary(data) != nil {
			return
		}
		touch(r)
		if _, err := r.MarshalBinary(); err != nil {
			t.Skip(err)
		}
	})
}

// touch reads every value that is there.
func touch(r Record) (n int) {
	for _, c := range []List[int32]{ResponseTokens} {
		if v, err := c.Find(r); err == nil {
			for i := range v.Len() {
				n += len(v.Row(i))
			}
		}
	}
	if v, err := CandidateIDs.Find(r); err == nil {
		for i := range v.Len() {
			for j := range v.Row(i).Len() {
				n += len(v.Row(i).Row(j))
			}
		}
	}
	if v, err := Response.Find(r); err == nil {
		for i := range v.Len() {
			n += len(v.At(i))
		}
	}
	if v, err := Outcome.Find(r); err == nil {
		for i := range v.Len() {
			v.At(i)
		}
	}
	if v, err := GroupValid.Find(r); err == nil {
		for i := range v.Len() {
			v.At(i)
		}
	}
	r.Groups()
	r.Meta()
	return n
}

// Bytes that are taken over may lie anywhere, and those that are not may change afterwards.
func TestUnmarshal(t *testing.T) {
	want, err := rollouts(t).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for shift := range 9 {
		at := make([]byte, shift+len(want))
		copy(at[shift:], want)
		r, err := Unmarshal(at[shift:])
		if err != nil {
			t.Fatalf("%d bytes from a boundary: %v", shift, err)
		}
		if lists := ResponseTokens.Of(r); uintptr(unsafe.Pointer(&lists.Values[0]))%4 != 0 {
			t.Errorf("%d bytes from a boundary: numbers lie across it", shift)
		}
		if got, err := r.MarshalBinary(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes from a boundary: another record, %v", shift, err)
		}
	}
	raw, back := bytes.Clone(want), Record{}
	if err := back.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if got, err := back.MarshalBinary(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the record changed with the bytes it was read from, %v", err)
	}
}
