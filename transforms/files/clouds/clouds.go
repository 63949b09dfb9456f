// Package clouds brings what reaches the files of clouds: gs:// for runs, models, prompts and rows, s3:// for prompts and
// rows. A program imports it for that alone; millrace does with the build tag cloud.
package clouds

import (
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/s3" // s3://
	_ "github.com/millrace/millrace/transforms/files/gcs"           // gs://
)
