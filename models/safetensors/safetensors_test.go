package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

// file is a safetensors file of that header and that many bytes of data.
func file(head string, body int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	b = append(b, head...)
	return append(b, make([]byte, body)...)
}

const good = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},` +
	`"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}`

var accepted = map[string][]byte{
	"two tensors":   file(good, 22),
	"padded header": file(good+"     ", 22),
	"no tensors":    file(`{}`, 0),
	"scalar":        file(`{"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4),
	"empty tensor": file(`{"e":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"f":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`,
		1),
	"not in file order": file(`{"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2),
}

// rejected maps what is wrong with a file to a part of the message that has to say so.
var rejected = map[string]struct {
	data []byte
	want string
}{
	"empty":                   {nil, "too short"},
	"seven bytes":             {make([]byte, 7), "too short"},
	"no header":               {make([]byte, 8), "does not start with '{'"},
	"header beyond the file":  {binary.LittleEndian.AppendUint64(nil, 100), "truncated"},
	"header over the limit":   {binary.LittleEndian.AppendUint64(nil, 100_000_001), "limit"},
	"header length overflows": {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "limit"},
	"not JSON":                {file(`{"a`, 0), "header"},
	"leading space":           {file(` {}`, 0), "does not start with '{'"},
	"an array":                {file(`[]`, 0), "does not start with '{'"},
	"two objects":             {file(`{}{}`, 0), "text after the object"},
	"not UTF-8":               {file("{\"a\xff\":{}}", 0), "UTF-8"},
	"body truncated":          {file(good, 21), "not within the 21 bytes"},
	"bytes after the end":     {file(good, 23), "1 bytes after the last tensor"},
	"hole at the start":       {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "belong to no tensor"},
	"hole in the middle": {
		file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3),
		"belong to no tensor"},
	"overlap": {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3),
		"overlap"},
	"the same bytes twice": {
		file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2), "overlap"},
	"shape against offsets":   {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), "takes 8 bytes"},
	"dtype against offsets":   {file(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,8]}}`, 8), "takes 4 bytes"},
	"shape overflows":         {file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "overflows"},
	"shape overflows to fit":  {file(`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}`, 16), "overflows"},
	"overflow before a zero":  {file(`{"e":{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]}}`, 0), "overflows"},
	"negative dimension":      {file(`{"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}}`, 1), "out of range"},
	"fractional dimension":    {file(`{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}`, 1), "json"},
	"dimension beyond int64":  {file(`{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0]}}`, 0), "json"},
	"offsets reversed":        {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "not within"},
	"offsets negative":        {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 1), "not within"},
	"offsets beyond the file": {file(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 8), "not within"},
	"three offsets":           {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}`, 1), "3 entries"},
	"unknown dtype":           {file(`{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}`, 4), "unknown dtype"},
	"no dtype":                {file(`{"a":{"shape":[1],"data_offsets":[0,4]}}`, 4), "needs dtype"},
	"null shape":              {file(`{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}`, 4), "needs dtype"},
	"unknown key":             {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}}`, 1), "unknown key"},
	"tensor twice": {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1),
		"twice"},
	"shape twice": {file(`{"a":{"dtype":"U8","shape":[2],"shape":[1],"data_offsets":[0,1]}}`, 1),
		"twice"},
	"metadata twice":            {file(`{"__metadata__":{},"__metadata__":{}}`, 0), "twice"},
	"metadata key twice":        {file(`{"__metadata__":{"a":"1","a":"2"}}`, 0), "twice"},
	"metadata not text":         {file(`{"__metadata__":{"a":1}}`, 0), "not a string"},
	"tensor is a number":        {file(`{"a":1}`, 0), "where an object should be"},
	"deep nesting":              {file(`{"a":`+strings.Repeat("[", 20000)+`}`, 0), "header"},
	"tensor name of other case": {file(`{"a":{"DTYPE":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "unknown key"},
}

func TestAcceptedFiles(t *testing.T) {
	for name, data := range accepted {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		write(t, path, data)
		f, err := Open(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f.Close()
	}
}

func TestRejectedFiles(t *testing.T) {
	for name, c := range rejected {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		write(t, path, c.data)
		_, err := Open(path)
		var typed *Error
		if !errors.As(err, &typed) || typed.Path != path || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an Error that names the file and says %q", name, err, c.want)
		}
	}
}

func TestMissingAndNotAFile(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), FileName) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestRejectedIndexes(t *testing.T) {
	for name, c := range map[string]struct{ index, want string }{
		"parent directory":  {`{"weight_map":{"a":"../secret.safetensors"}}`, "beside the index"},
		"absolute":          {`{"weight_map":{"a":"/etc/secret.safetensors"}}`, "beside the index"},
		"backslash":         {`{"weight_map":{"a":"..\\secret.safetensors"}}`, "beside the index"},
		"drive":             {`{"weight_map":{"a":"c:secret.safetensors"}}`, "beside the index"},
		"sub-directory":     {`{"weight_map":{"a":"x/secret.safetensors"}}`, "beside the index"},
		"other kind":        {`{"weight_map":{"a":"secret.bin"}}`, "beside the index"},
		"nul":               {`{"weight_map":{"a":"a\u0000.safetensors"}}`, "beside the index"},
		"dots only":         {`{"weight_map":{"a":".."}}`, "beside the index"},
		"not a name":        {`{"weight_map":{"a":1}}`, "not a file name"},
		"none":              {`{}`, "no weight_map"},
		"empty":             {`{"weight_map":{}}`, "no weight_map"},
		"tensor twice":      {`{"weight_map":{"a":"s.safetensors","a":"t.safetensors"}}`, "twice"},
		"map twice":         {`{"weight_map":{"a":"s.safetensors"},"weight_map":{"a":"s.safetensors"}}`, "twice"},
		"shard missing":     {`{"weight_map":{"a":"t.safetensors"}}`, "no such file"},
		"not in that shard": {`{"weight_map":{"c":"s.safetensors"}}`, "does not hold it"},
		"not JSON":          {`{"weight_map"`, "index"},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "s.safetensors"), file(good, 22))
		write(t, filepath.Join(dir, IndexName), []byte(c.index))
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestShardsReadLikeOneFile(t *testing.T) {
	dir := t.TempDir()
	tensors := sample()
	if err := Write(filepath.Join(dir, "one.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	index := []string{}
	for i, nt := range tensors {
		shard := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(tensors))
		if err := Write(filepath.Join(dir, shard), []NamedTensor{nt}, map[string]string{"format": "pt"}); err != nil {
			t.Fatal(err)
		}
		index = append(index, fmt.Sprintf("%q:%q", nt.Name, shard))
	}
	write(t, filepath.Join(dir, IndexName), []byte(`{"metadata":{"total_size":1},"weight_map":{`+strings.Join(index, ",")+`}}`))
	one, err := Open(filepath.Join(dir, "one.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	many, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer many.Close()
	if !slices.Equal(one.Names(), many.Names()) || many.Metadata()["format"] != "pt" {
		t.Fatalf("names %v, want %v; metadata %v", many.Names(), one.Names(), many.Metadata())
	}
	for _, name := range one.Names() {
		a, _ := one.Tensor(name)
		b, _ := many.Tensor(name)
		if a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s differs between one file and shards", name)
		}
	}
}

func sample() []NamedTensor {
	values := make([]float32, 40000)
	for i := range values {
		values[i] = float32(math.Sin(float64(i)))
	}
	return []NamedTensor{
		{Name: "half", Shape: []int{4}, Values: []float32{1, -2, 0.5, 65504}, DType: F16},
		{Name: "big", Shape: []int{200, 200}, Values: values},
		{Name: "brain", Shape: []int{3}, Values: []float32{1, 3e38, -1e-38}, DType: BF16},
		{Name: "scalar", Values: []float32{7}},
		{Name: `odd "name" <&> é`, Shape: []int{0, 3}},
	}
}

func TestWriteIsDeterministicAndReadsBack(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.safetensors")
	tensors := sample()
	meta := map[string]string{"format": "pt", "z": "<1>", "a": "é"}
	if err := Write(a, tensors, meta); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(tensors)
	write(t, b, []byte("an older version"))
	if err := Write(b, tensors, meta); err != nil {
		t.Fatal(err)
	}
	x, _ := os.ReadFile(a)
	y, _ := os.ReadFile(b)
	if !bytes.Equal(x, y) {
		t.Error("the order of the tensors changes the bytes")
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("temporary files are left: %v", left)
	}
	f, err := Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !maps.Equal(f.Metadata(), meta) {
		t.Errorf("metadata %v, want %v", f.Metadata(), meta)
	}
	for _, want := range tensors {
		got, shape, err := f.Float32(want.Name)
		if err != nil || !slices.Equal(shape, want.Shape) {
			t.Fatalf("%s: shape %v, %v", want.Name, shape, err)
		}
		for i, v := range want.Values {
			if want.DType == BF16 && math.Abs(float64(got[i]-v)) <= math.Abs(float64(v))/256 {
				continue
			}
			if got[i] != v {
				t.Fatalf("%s[%d] = %v, want %v", want.Name, i, got[i], v)
			}
		}
		if tensor, _ := f.Tensor(want.Name); len(tensor.Data) > 0 && cap(tensor.Data) != len(tensor.Data) {
			t.Errorf("%s: its data can be resliced into the next tensor", want.Name)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		tensors []NamedTensor
		want    string
	}{
		"wrong count":   {[]NamedTensor{{Name: "a", Shape: []int{3}, Values: []float32{1, 2}}}, "does not hold"},
		"twice":         {[]NamedTensor{{Name: "a", Values: []float32{1}}, {Name: "a", Values: []float32{1}}}, "used twice"},
		"reserved":      {[]NamedTensor{{Name: metadataKey, Values: []float32{1}}}, "reserved"},
		"not UTF-8":     {[]NamedTensor{{Name: "\xff", Values: []float32{1}}}, "UTF-8"},
		"other dtype":   {[]NamedTensor{{Name: "a", Values: []float32{1}, DType: "I32"}}, "cannot be written"},
		"negative":      {[]NamedTensor{{Name: "a", Shape: []int{-1, -1}, Values: []float32{1}}}, "out of range"},
		"float16 range": {[]NamedTensor{{Name: "a", Values: []float32{65520}, DType: F16}}, "too large"},
		"bf16 range":    {[]NamedTensor{{Name: "a", Values: []float32{math.MaxFloat32}, DType: BF16}}, "too large"},
	} {
		dir := t.TempDir()
		err := Write(filepath.Join(dir, "m.safetensors"), c.tensors, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: files are left: %v", name, left)
		}
	}
}

func TestConversionIsRefusedWhereItIsNotDefined(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	write(t, path, file(`{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}`, 4))
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := f.Float32("a"); err == nil || !strings.Contains(err.Error(), "I32") {
		t.Errorf("I32 to float32: %v", err)
	}
	if _, err := f.Tensor("b"); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("missing tensor: %v", err)
	}
}

// The two copies of the small Qwen3 model hold the same values, one as float32 and one as bfloat16.
func TestBFloat16CopyHoldsTheSameValues(t *testing.T) {
	wide, err := Open(filepath.Dir(golden.Path(t, "golden", "tiny_qwen3", FileName)))
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	narrow, err := Open(filepath.Dir(golden.Path(t, "golden", "tiny_qwen3_bf16", FileName)))
	if err != nil {
		t.Fatal(err)
	}
	defer narrow.Close()
	if len(wide.Names()) == 0 || !slices.Equal(wide.Names(), narrow.Names()) {
		t.Fatalf("names %v and %v", wide.Names(), narrow.Names())
	}
	for _, name := range wide.Names() {
		a, _, err := wide.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := narrow.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a, b) {
			t.Errorf("%s differs", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, data := range accepted {
		f.Add(data)
	}
	for _, c := range rejected {
		if len(c.data) < 1<<12 {
			f.Add(c.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parse("fuzz", data)
		if err != nil {
			return
		}
		total := 0
		for name, tensor := range h.tensors {
			count := 1
			for _, d := range tensor.Shape {
				count *= d
			}
			if len(tensor.Data) != count*tensor.DType.Size() {
				t.Fatalf("%s: shape %v of %s with %d bytes", name, tensor.Shape, tensor.DType, len(tensor.Data))
			}
			total += len(tensor.Data)
		}
		if want := len(data) - 8 - int(binary.LittleEndian.Uint64(data)); total != want {
			t.Fatalf("tensors cover %d of %d bytes", total, want)
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../b.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		weights, err := parseIndex("fuzz", data)
		if err != nil {
			return
		}
		for _, file := range weights {
			if filepath.Dir(filepath.Join("dir", file)) != "dir" || !filepath.IsLocal(file) {
				t.Fatalf("%q leaves the directory", file)
			}
		}
	})
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
