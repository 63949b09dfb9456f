package gguf

// FileWith is a file without tensors that holds the metadata, keys and values in turn, for tests outside the package.
func FileWith(keysAndValues ...any) []byte {
	var b builder
	for i := 0; i < len(keysAndValues); i += 2 {
		b.keys = append(b.keys, keyValue{keysAndValues[i].(string), keysAndValues[i+1]})
	}
	return b.bytes()
}
