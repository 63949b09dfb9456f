package rollout

import (
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/schemas/setting"
)

// Engine is another program than the trainer that samples in the policy's place: an endpoint, which is given the policy's new weights
// before it samples. Its log-probs are sampler_logp; old_logp is what the trainer's own model gives the same ids.
type Engine struct {
	Path         string   `json:"path" doc:"URL of the server, such as http://localhost:8000/v1?model=NAME"`
	Reload       string   `json:"reload" enum:"lora,disk,command,none" doc:"how it is given new weights: lora, vLLM's load_lora_adapter; disk, update_weights_from_disk of SGLang and of millrace serve --reload; command; none, never"`
	Every        int      `json:"every" range:"[1,1e9]" doc:"iterations between reloads"`
	MaxStaleness int      `json:"max_staleness" range:"[0,1e9]" doc:"by how many iterations the weights that sample may be older than the policy that learns"`
	Command      []string `json:"command,omitempty" doc:"of reload command: a program and its arguments, after which come the model's directory and the number of iterations it has learned in"`
	Shared       string   `json:"shared,omitempty" doc:"directory that the server sees too, to which weights are copied before it is told; empty: it sees the run's own"`
}

// Words of Engine.Reload beside those of package remote.
const (
	ReloadCommand = "command"
	ReloadNone    = "none"
)

// SetDefaults reloads before every iteration.
func (e *Engine) SetDefaults() { *e = Engine{Reload: remote.ReloadDisk, Every: 1} }

// Validate names the first key that does not go with the others.
func (e Engine) Validate() error {
	switch {
	case !remote.IsEndpoint(e.Path):
		return setting.Errorf("path", "%q is no URL of a server; a model on this machine samples without an engine", e.Path)
	case (e.Reload == ReloadCommand) != (len(e.Command) > 0):
		return setting.Errorf("command", "belongs to reload: command, which needs it")
	case e.Reload == ReloadNone && (e.Every != 1 || e.Shared != ""):
		return setting.Errorf("reload", "none leaves the server as it is; leave every and shared out")
	case e.Reload == ReloadCommand && e.Shared != "":
		return setting.Errorf("shared", "a command is given the model's directory, and copies it where it likes")
	case e.Reload != ReloadNone && e.Every-1 > e.MaxStaleness:
		return setting.Errorf("max_staleness", "%d; with a reload every %d iterations the engine's weights are up to %d older", e.MaxStaleness,
			e.Every, e.Every-1)
	}
	return nil
}

// Version is the iteration whose starting weights sample in an iteration.
func (e Engine) Version(iteration int) int {
	if e.Reload == ReloadNone {
		return 0
	}
	return iteration - iteration%e.Every
}
