package command

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/models/local/localtest"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

// notes is a writer that another goroutine reads.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func TestServeAndProbe(t *testing.T) {
	tok := tokenizer.NewProvingGround(false)
	m, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: tok.VocabSize(), Hidden: 16, Intermediate: 24, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 8,
		MaxPositions: 64, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := localtest.Save(t, m, tok).Path

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log, ended := &notes{}, make(chan error, 1)
	root := newRoot(&env{out: &bytes.Buffer{}, err: log})
	root.SetArgs([]string{"serve", dir, "--addr", "127.0.0.1:0", "--name", "tiny"})
	go func() { ended <- root.ExecuteContext(ctx) }()
	var url string
	for url == "" {
		select {
		case err := <-ended:
			t.Fatalf("%v\n%s", err, log)
		case <-time.After(10 * time.Millisecond):
			url = regexp.MustCompile(`http://\S+`).FindString(log.String())
		}
	}

	var out bytes.Buffer
	if code := Main([]string{"probe", url, "--json"}, &out, log); code != exitOK {
		t.Fatalf("exit code %d: %s", code, log)
	}
	var caps remote.Capabilities
	if err := json.Unmarshal(out.Bytes(), &caps); err != nil || caps.Model != "tiny" || !caps.Millrace || caps.MaxLen != 64 {
		t.Errorf("%v %s", err, out.String())
	}
	out.Reset()
	if code := Main([]string{"probe", url}, &out, log); code != exitOK || !strings.Contains(out.String(), "log-probs of a prompt") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the server ends with %v", err)
	}
	if code := Main([]string{"probe", url}, &out, log); code != exitFailed {
		t.Errorf("probing a server that is gone: exit code %d", code)
	}
	if code := Main([]string{"serve", dir, "--addr", "0.0.0.0:0"}, &out, log); code != exitUsage {
		t.Errorf("serving the world without a key: exit code %d", code)
	}
	if code := Main([]string{"serve"}, &out, log); code != exitUsage {
		t.Errorf("serving nothing: exit code %d", code)
	}
}
