package schemas

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestStreamCutShort: a stream that is cut at any byte is an error that says so, also where the cut lies between two messages and only
// the marker of its end is missing.
func TestStreamCutShort(t *testing.T) {
	var whole bytes.Buffer
	out := NewStreamWriter(&whole)
	for range 3 {
		if err := out.Write(rollouts(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	count := func(in *StreamReader) (n int, err error) {
		for {
			if _, err = in.Next(); err != nil {
				return n, err
			}
			n++
		}
	}
	for cut := range whole.Len() + 1 {
		for name, in := range map[string]*StreamReader{
			"reader": NewStreamReader(bytes.NewReader(whole.Bytes()[:cut]), int64(whole.Len())),
			"bytes":  NewBytesReader(bytes.Clone(whole.Bytes()[:cut])),
		} {
			n, err := count(in)
			if cut == whole.Len() {
				if n != 3 || err != io.EOF {
					t.Errorf("%s: the whole stream gives %d records and %v", name, n, err)
				}
			} else if err == io.EOF || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s: cut after %d of %d bytes gives %d records and %v", name, cut, whole.Len(), n, err)
			}
		}
	}
}
