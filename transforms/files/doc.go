// Package files reads, writes, lists, removes and locks the files of a run, wherever it lies. A path says where: one with a
// scheme, such as gs://bucket/name, belongs to the Store that was registered for it, or else to Beam's filesystem of that
// name; any other is a file of this machine. Every function takes a path of any kind. A file is written as a whole or not at
// all.
//
// The package itself knows no cloud. What reaches gs:// and s3:// is package clouds below it, which a program imports for
// that alone.
//
// Errors name the path; errors.Is(err, fs.ErrNotExist) and fs.ErrPermission hold wherever the file lies.
package files
