// Package recordio writes batches to Parquet and Arrow files and reads them back.
//
// A file's bytes depend on its rows alone: prompt groups lie in the order of their ids, row groups are cut by rows and
// size, writer settings are fixed, there is no time in it. So one worker and ten, or a run that was killed and resumed,
// leave the same files. A file appears under its name as a whole or not at all.
//
// Memory is bounded whatever the number of rows: what a shard holds is merged from files of the store that are each in
// order, one prompt group of each at a time.
package recordio
