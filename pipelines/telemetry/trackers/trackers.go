// Package trackers sends what runs tell to experiment trackers, such as an MLflow server: one file a tracker, one registry. It knows no
// run directory: package run reads what a run holds, and asks a tracker how much of it is there already.
package trackers

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/schemas/setting"
)

// Tracker is the configuration of one kind of tracker.
type Tracker interface {
	// Open finds a run at the tracker by its key, or begins it there.
	Open(ctx context.Context, r Run) (Session, error)
	// Tables says which samples the tracker is sent.
	Tables() Samples
}

// Session is a run at a tracker. After an error of Send it is used no more: what the tracker then has, a session that is opened anew
// finds out.
type Session interface {
	// Address is where people look at the run.
	Address() string
	// Note says what the tracker cannot be sent and why, "" where it takes all.
	Note() string
	// Send sends the points that the tracker does not have yet, and tags whose values are others. It returns how many points it sent.
	Send(ctx context.Context, points []Point, tags map[string]string) (int, error)
	// Attach sends a file, unless the tracker has it as it is.
	Attach(ctx context.Context, name string, raw []byte) error
	// Lacks reports whether the tracker can have tables and has none of that step.
	Lacks(ctx context.Context, step int) (bool, error)
	// Table sends a table.
	Table(ctx context.Context, t Table) error
	// Status is where the tracker takes the run to be.
	Status() Status
	// Turn says where the run is, and where it does not go on since when.
	Turn(ctx context.Context, s Status, at time.Time) error
}

// NoFiles is embedded by the sessions of trackers that keep points alone.
type NoFiles struct{}

// Note says so.
func (NoFiles) Note() string {
	return "config.yaml and samples are not sent: the tracker keeps points alone"
}

// Attach sends nothing.
func (NoFiles) Attach(context.Context, string, []byte) error { return nil }

// Lacks reports none.
func (NoFiles) Lacks(context.Context, int) (bool, error) { return false, nil }

// Table is not called.
func (NoFiles) Table(context.Context, Table) error { return nil }

// Run is what a tracker is told of a run first.
type Run struct {
	Key      string // of the run directory, the same for as long as it is there
	Name     string // for people
	Started  time.Time
	Settings map[string]string // of the recipe by their paths, such as update.losses[0].name
	Tags     map[string]string
}

// Point is one point of a curve.
type Point struct {
	At    time.Time
	Step  int // iterations done
	Name  string
	Value float64
}

// Table is a table of samples of one step. A value is a text, a number or nil.
type Table struct {
	Step    int
	Columns []string
	Rows    [][]any // each of len(Columns)
}

// Status is where a run is.
type Status string

const (
	Running  Status = "running"
	Finished Status = "finished"
	Failed   Status = "failed"
	Killed   Status = "killed" // ended from outside
)

// Samples says which responses a tracker is sent as tables.
type Samples struct {
	Every      int `json:"every" range:"[0,1e9]" doc:"iterations between tables of samples; the first has one; 0: none"`
	Rows       int `json:"rows" range:"[1,1000]" doc:"responses of a table at most: of each prompt a right and a wrong one"`
	Characters int `json:"characters" range:"[40,1e6]" doc:"of a prompt, a response or a reason at most; the rest is cut off, and counted"`
}

// Of reports whether the iteration after which so many are done has a table.
func (s Samples) Of(done int) bool { return s.Every > 0 && (done == 1 || done%s.Every == 0) }

var kinds = setting.NewKinds[Tracker]("tracker", "kind")

// Register makes a kind of tracker known under a name. The value holds the defaults.
func Register(name string, defaults Tracker) { kinds.Register(name, defaults) }

// Kinds lists the kinds of trackers.
func Kinds() []string { return kinds.Names() }

// Keyed is a tracker that sends keys of the environment. Received says whether it may send them where its settings say, when those come
// with a run directory rather than from who has the keys.
type Keyed interface{ Received() error }

// Config chooses a tracker.
type Config struct {
	Kind string
	Tracker
}

// New is the tracker of a kind with settings of its own.
func New(kind string, settings map[string]any) (Config, error) {
	t, err := kinds.New(kind, settings)
	if err != nil {
		return Config{}, err
	}
	return Config{kind, t}, Config{kind, t}.Validate()
}

// DecodeSetting reads the kind and its keys.
func (c *Config) DecodeSetting(tree any, path string) (err error) {
	c.Kind, c.Tracker, err = kinds.DecodeFlat(tree, path, "")
	return err
}

// MarshalJSON writes the kind and its keys.
func (c Config) MarshalJSON() ([]byte, error) { return kinds.EncodeFlat(c.Kind, c.Tracker) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Config) UnmarshalJSON(raw []byte) (err error) {
	c.Kind, c.Tracker, err = kinds.UnmarshalFlat(raw)
	return err
}

// SettingSchema describes the keys of every kind.
func (c *Config) SettingSchema() *setting.Schema { return kinds.SchemaFlat("") }

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	if c.Tracker == nil {
		return setting.Errorf("kind", "is missing%s", setting.Suggest("", Kinds()))
	}
	return setting.Check(c.Tracker)
}

// Cut shortens a text to so many characters, with a word on how many it had.
func Cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	note := []rune(fmt.Sprintf("… (%d characters)", len(runes)))
	return string(append(runes[:max(0, most-len(note))], note...))
}

// Error is what went wrong between here and a tracker.
type Error struct {
	Tracker string // its kind
	Address string
	Status  int // of the answer; 0: there was none
	Problem string
	Again   bool // the same may be right later
}

func (e *Error) Error() string { return e.Tracker + " at " + e.Address + ": " + e.Problem }
