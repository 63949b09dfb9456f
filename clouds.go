//go:build cloud

package main

import _ "github.com/millrace/millrace/transforms/files/clouds" // gs:// and s3://
