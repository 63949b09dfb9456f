package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// TrackersName is the file of a run's telemetry that says by which key trackers know the run, and which it was last given.
const TrackersName = "trackers.json"

type tracked struct {
	Key      string            `json:"key"`
	Trackers []trackers.Config `json:"trackers,omitempty"`
}

// Trackers are those that the run was given last.
func (run *Dir) Trackers(ctx context.Context) ([]trackers.Config, error) {
	t, err := readState[tracked](ctx, run.trackersPath())
	if err != nil || t == nil {
		return nil, err
	}
	for i, c := range t.Trackers { // the environment may have been another one then
		err := c.Validate()
		if k, ok := c.Tracker.(trackers.Keyed); ok && err == nil {
			err = k.Received()
		}
		if err != nil {
			return nil, setting.In(fmt.Sprintf("%s: trackers[%d]", run.trackersPath(), i), err)
		}
	}
	return t.Trackers, nil
}

func (run *Dir) trackersPath() string { return files.Join(run.Path, telemetry.Dir, TrackersName) }

// trackingKey is the key by which trackers know the run, made the first time, and remembers the trackers that it is given, if any.
func (run *Dir) trackingKey(ctx context.Context, given []trackers.Config) (string, error) {
	t, err := readState[tracked](ctx, run.trackersPath())
	if err != nil {
		return "", err
	}
	if t != nil && t.Key != "" {
		if err := uuid.Validate(t.Key); err != nil {
			return "", fmt.Errorf("%s: key: %w; it is made by the run", run.trackersPath(), err)
		}
	}
	if t != nil && t.Key != "" && given == nil {
		return t.Key, nil
	}
	if t == nil || t.Key == "" {
		t = &tracked{Key: uuid.NewString()}
	}
	if given != nil {
		t.Trackers = given
	}
	return t.Key, writeState(ctx, run.trackersPath(), t, true)
}

// tracking sends a tracker what it does not have yet of a run. What it has is asked for once, and again after an error.
type tracking struct {
	dir     *Dir
	key     string
	of      trackers.Config
	session trackers.Session // nil: not open
	config  []byte           // config.yaml
	ended   time.Time        // where it is another time than now
	sent    int              // committed iterations that the tracker is known to have
	told    Tracked
}

// Tracked is what a tracker has been sent.
type Tracked struct {
	Tracker    string          `json:"tracker"`
	Address    string          `json:"address"`    // where people look at it
	Iterations int             `json:"iterations"` // that the tracker has
	Points     int             `json:"points"`     // sent now
	Tables     int             `json:"tables"`     // sent now
	Status     trackers.Status `json:"status"`
	Note       string          `json:"note,omitempty"` // what the tracker cannot be sent, and why
}

// Track sends each tracker what it does not have yet of the committed iterations, and says whether the run has finished. What a tracker
// cannot be sent does not keep the others from theirs.
func (run *Dir) Track(ctx context.Context, of []trackers.Config) (out []Tracked, err error) {
	done, err := run.Committed(ctx)
	if err != nil {
		return nil, err
	}
	key, err := run.trackingKey(ctx, nil)
	if err != nil {
		return nil, err
	}
	standing, ended := run.standing(ctx, len(done)), time.Time{}
	if info, err := files.Stat(ctx, files.Join(run.IterPath(len(done)-1), commit.ManifestName)); err == nil {
		ended = info.Modified
	}
	for _, c := range of {
		t := tracking{dir: run, key: key, of: c, ended: ended, told: Tracked{Tracker: c.Kind}}
		to := standing
		one := t.deliver(ctx, len(done), func(s trackers.Status) trackers.Status {
			if s != trackers.Running && to == trackers.Killed {
				return s // the process that ended it has said how
			}
			return to
		})
		err = errors.Join(err, one)
		out = append(out, t.told)
	}
	return out, err
}

// standing says where a run is that nobody tells of: one that lacks iterations is running as long as a process has its lock.
func (run *Dir) standing(ctx context.Context, done int) trackers.Status {
	if r, err := run.Recipe(ctx); err != nil || done >= r.Iterations { // a text that is no recipe does not say how many there are
		return trackers.Finished
	}
	d, _, err := Open(ctx, run.Path)
	var locked *files.LockedError
	switch {
	case errors.As(err, &locked):
		return trackers.Running
	case err == nil:
		_ = d.Close()
	}
	return trackers.Killed
}

const (
	trackAttempts = 3
	trackPause    = time.Second / 2 // after the first failure, then twice as long
)

// deliver is send, tried again where that may help.
func (t *tracking) deliver(ctx context.Context, done int, standing func(trackers.Status) trackers.Status) error {
	pause := trackPause
	for attempt := 1; ; attempt++ {
		err := t.send(ctx, done, standing)
		var e *trackers.Error
		if err == nil || attempt == trackAttempts || !errors.As(err, &e) || !e.Again {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// trackPoints is how many points are gathered before they are sent.
const trackPoints = 10_000

// send sends what the tracker lacks of the first so many iterations, points before files, and then where the run is, which follows from
// where the tracker takes it to be. A tracker that does not take files has the points all the same.
func (t *tracking) send(ctx context.Context, done int, standing func(trackers.Status) trackers.Status) (err error) {
	defer func() {
		if v := recover(); v != nil { // a tracker must not end a run
			err = fmt.Errorf("panic: %v", v)
		}
		if err != nil {
			t.session = nil
		}
	}()
	if t.session == nil {
		if err := t.open(ctx); err != nil {
			return err
		}
	}
	var points []trackers.Point
	for i := t.sent; i < done; i++ {
		some, err := t.dir.pointsOf(ctx, i)
		if err != nil {
			return err
		}
		if points = append(points, some...); len(points) < trackPoints && i < done-1 {
			continue
		}
		tags, err := t.dir.tagsOf(ctx, i)
		if err != nil {
			return err
		}
		n, err := t.session.Send(ctx, points, tags)
		if err != nil {
			return err
		}
		t.told.Points += n
		points = points[:0]
	}
	filed := t.session.Attach(ctx, recipe.ConfigName, t.config)
	for i := t.sent; i < done && filed == nil; i++ {
		if filed = t.table(ctx, i); filed == nil {
			t.sent = i + 1
		}
	}
	t.told.Iterations = done
	ended := t.ended
	if ended.IsZero() {
		ended = time.Now()
	}
	if err := errors.Join(filed, t.session.Turn(ctx, standing(t.session.Status()), ended)); err != nil {
		return err
	}
	t.told.Status = t.session.Status()
	return nil
}

// open finds or begins the run at the tracker.
func (t *tracking) open(ctx context.Context) error {
	config := files.Join(t.dir.Path, recipe.ConfigName)
	raw, err := files.Read(ctx, config, MaxStateBytes)
	if err != nil {
		return err
	}
	t.config = raw
	identity := commit.Digest(recipe.Identity(raw))
	what := trackers.Run{Key: t.key, Name: files.Base(t.dir.Path), Started: time.Now(), Settings: recipe.Flat(raw),
		Tags: map[string]string{"millrace.run": identity[:chain.RunNameLength], "millrace.identity": identity, "millrace.version": Version()}}
	for _, path := range []string{config, files.Join(t.dir.IterPath(0), commit.ManifestName)} {
		if info, err := files.Stat(ctx, path); err == nil && info.Modified.Before(what.Started) {
			what.Started = info.Modified
		}
	}
	if t.session, err = t.of.Open(ctx, what); err == nil {
		t.told.Address, t.told.Note = t.session.Address(), t.session.Note()
	}
	return err
}

// pointsOf are the points of a committed iteration, each metric over the iterations done.
func (run *Dir) pointsOf(ctx context.Context, number int) (out []trackers.Point, err error) {
	info, err := files.Stat(ctx, files.Join(run.IterPath(number), commit.ManifestName))
	if err != nil {
		return nil, err
	}
	measured, err := run.measured(ctx, number)
	if err != nil {
		return nil, err
	}
	for _, m := range measured {
		figures := m.Figures()
		for _, name := range slices.Sorted(maps.Keys(figures)) {
			out = append(out, trackers.Point{At: info.Modified, Step: m.Iterations, Name: name, Value: figures[name]})
		}
	}
	return out, nil
}

// tagsOf says how far a run is with an iteration, from what it was made, and which models it has: the digests of the last manifest, of
// what the recipe names, and of the weights that the iteration left.
func (run *Dir) tagsOf(ctx context.Context, number int) (map[string]string, error) {
	m, digest, err := run.ReadManifest(ctx, number)
	if err != nil {
		return nil, err
	}
	out := map[string]string{"millrace.iterations": fmt.Sprint(number + 1), "millrace.manifest": digest}
	for name, of := range m.Inputs {
		out["millrace.input."+name] = of.Digest
	}
	for name, digest := range m.Files {
		if folder, _, below := strings.Cut(name, "/"); below && IsModel(folder) && strings.HasSuffix(name, ".safetensors") {
			out["millrace.model."+name] = digest
		}
	}
	return out, nil
}

// table sends the table of an iteration that is to have one.
func (t *tracking) table(ctx context.Context, number int) error {
	s := t.of.Tables()
	if !s.Of(number + 1) {
		return nil
	}
	lacks, err := t.session.Lacks(ctx, number+1)
	if err != nil || !lacks {
		return err
	}
	table, err := t.dir.sampleTable(ctx, number, s)
	if err != nil || table == nil {
		return err
	}
	if err := t.session.Table(ctx, *table); err != nil {
		return err
	}
	t.told.Tables++
	return nil
}
