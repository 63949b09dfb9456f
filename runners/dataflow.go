package runners

import (
	"os"
	"regexp"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
)

// Dataflow holds the options of the Dataflow runner.
type Dataflow struct {
	Project         string            `json:"project" doc:"id of the project"`
	Region          string            `json:"region" doc:"such as us-central1"`
	StagingLocation string            `json:"staging_location" doc:"gs://bucket/path for the program and the pipeline"`
	TempLocation    string            `json:"temp_location" doc:"gs://bucket/path for temporary files; empty: tmp under staging_location"`
	WorkerBinary    string            `json:"worker_binary" doc:"the program as a Linux file; empty: the file of this program"`
	Image           string            `json:"image" doc:"container of the workers; empty: Beam's Go image"`
	MachineType     string            `json:"machine_type" doc:"of the workers; empty: the service decides"`
	NumWorkers      int64             `json:"num_workers" range:"[0,inf)" doc:"workers at the start; 0: the service decides"`
	MaxNumWorkers   int64             `json:"max_num_workers" range:"[0,inf)" doc:"workers at most; 0: the service decides"`
	Threads         int64             `json:"threads" range:"[0,inf)" doc:"bundles at once on a worker; 0: the service decides"`
	DiskGB          int64             `json:"disk_gb" range:"[0,inf)" doc:"disk of a worker in GB; 0: the service decides"`
	ServiceAccount  string            `json:"service_account" doc:"the account that the workers run as; empty: the project's default"`
	Network         string            `json:"network" doc:"of the workers; empty: the project's default"`
	Subnetwork      string            `json:"subnetwork" doc:"of the workers; empty: the network's"`
	PublicIPs       bool              `json:"public_ips" doc:"workers have addresses that can be reached from outside"`
	Labels          map[string]string `json:"labels,omitempty" doc:"labels of the job, for bills and searches"`
	Experiments     []string          `json:"experiments,omitempty" doc:"experiments of the service that are turned on"`
	ServiceOptions  []string          `json:"service_options,omitempty" doc:"further options of the service"`
}

func defaultDataflow() Dataflow { return Dataflow{PublicIPs: true} }

var (
	projectPattern = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	regionPattern  = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)
	bucketPattern  = regexp.MustCompile(`^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$`)
	labelPattern   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
)

// validate names the first key that the service would not take.
func (d Dataflow) validate() error {
	switch {
	case !projectPattern.MatchString(d.Project):
		return setting.Errorf("project", "%q is not the id of a project", d.Project)
	case !regionPattern.MatchString(d.Region):
		return setting.Errorf("region", "%q is not a region, such as us-central1", d.Region)
	case !bucketPattern.MatchString(d.StagingLocation):
		return setting.Errorf("staging_location", "%q is not gs://bucket/path", d.StagingLocation)
	case d.TempLocation != "" && !bucketPattern.MatchString(d.TempLocation):
		return setting.Errorf("temp_location", "%q is not gs://bucket/path", d.TempLocation)
	case d.MaxNumWorkers > 0 && d.NumWorkers > d.MaxNumWorkers:
		return setting.Errorf("num_workers", "%d is above max_num_workers (%d)", d.NumWorkers, d.MaxNumWorkers)
	}
	for key := range d.Labels {
		if !labelPattern.MatchString(key) {
			return setting.Errorf("labels", "%q is not a key of lower-case letters, digits, - and _ that starts with a letter", key)
		}
	}
	for _, e := range d.Experiments {
		if strings.HasPrefix(e, "disable_runner_v2") {
			return setting.Errorf("experiments", "%s; Go pipelines need runner v2", e)
		}
	}
	if d.WorkerBinary != "" {
		if info, err := os.Stat(d.WorkerBinary); err != nil || info.IsDir() {
			return setting.Errorf("worker_binary", "%q is not a file", d.WorkerBinary)
		}
	}
	return nil
}
