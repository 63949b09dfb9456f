package runners

import (
	"flag"
	"fmt"
	"maps"
	"slices"
)

// owned are the flags of Beam that a runner's own settings stand for.
var owned = map[string]string{
	"runner":                   "name",
	"endpoint":                 "flink.endpoint",
	"environment_type":         "flink.environment",
	"environment_config":       "flink.command, flink.pool or flink.image",
	"parallelism":              "flink.parallelism",
	"job_name":                 "",
	"worker":                   "",
	"id":                       "",
	"control_endpoint":         "",
	"logging_endpoint":         "",
	"project":                  "dataflow.project",
	"region":                   "dataflow.region",
	"staging_location":         "dataflow.staging_location",
	"temp_location":            "dataflow.temp_location",
	"worker_binary":            "dataflow.worker_binary",
	"sdk_container_image":      "dataflow.image",
	"worker_machine_type":      "dataflow.machine_type",
	"num_workers":              "dataflow.num_workers",
	"max_num_workers":          "dataflow.max_num_workers",
	"service_account_email":    "dataflow.service_account",
	"dry_run":                  "the plan command",
	"async":                    "",
	"execute_async":            "",
	"experiments":              "dataflow.experiments",
	"no_use_public_ips":        "dataflow.public_ips",
	"use_public_ips":           "dataflow.public_ips",
	"network":                  "dataflow.network",
	"subnetwork":               "dataflow.subnetwork",
	"disk_size_gb":             "dataflow.disk_gb",
	"labels":                   "dataflow.labels",
	"dataflow_service_options": "dataflow.service_options",
}

// checkFlags names the first flag that Beam does not have, or that a setting stands for.
func checkFlags(flags map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if instead, ok := owned[name]; ok {
			if instead == "" {
				return fmt.Errorf("flags.%s: is set by the runner itself", name)
			}
			return fmt.Errorf("flags.%s: use %s", name, instead)
		}
		if flag.Lookup(name) == nil {
			return fmt.Errorf("flags.%s: Beam has no such flag", name)
		}
	}
	return nil
}

// setFlags sets Beam's flags, from where the pipeline options that workers see are taken.
func setFlags(flags map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if err := flag.Set(name, flags[name]); err != nil {
			return fmt.Errorf("flags.%s: %w", name, err)
		}
	}
	return nil
}
