package transformer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/schemas/setting"
)

// LoRA is low-rank adaptation (Hu and others, 2021, arXiv 2106.09685): the weights stay as they are, and a target matrix W
// gets the product of two small trained ones, y = x Wᵀ + Alpha/Rank · (x Aᵀ) Bᵀ with A [Rank,in] and B [out,Rank].
type LoRA struct {
	Rank    int      `json:"rank" range:"[1,4096]" doc:"columns of the two trained matrices"`
	Alpha   float64  `json:"alpha" range:"(0,inf)" doc:"the product of the two is scaled by alpha/rank"`
	Targets []string `json:"targets,omitempty" enum:"q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj" doc:"matrices that are adapted; none: all"`
}

// loraTargets are the matrices that can be adapted, in the order of a layer.
var loraTargets = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// Equal reports whether two settings give adapters of the same shape and scale.
func (c LoRA) Equal(other LoRA) bool {
	sorted := func(l LoRA) []string { return slices.Sorted(slices.Values(l.targets())) }
	return c.Rank == other.Rank && c.Alpha == other.Alpha && slices.Equal(sorted(c), sorted(other))
}

func (c LoRA) String() string {
	on := "all linear layers"
	if len(c.targets()) < len(loraTargets) {
		on = strings.Join(c.Targets, ", ")
	}
	return fmt.Sprintf("rank %d and alpha %v on %s", c.Rank, c.Alpha, on)
}

func (c LoRA) targets() []string {
	if len(c.Targets) == 0 {
		return loraTargets
	}
	return c.Targets
}

// LoRA returns the setting of the model's adapters, nil when it has none.
func (m *Model) LoRA() *LoRA {
	if m.adapters == nil {
		return nil
	}
	c := m.adapters.config
	return &c
}

// Parameters are the weights that a Trainer of the model would move, by name: the adapters where it has some. They can be overwritten.
func (m *Model) Parameters() []models.Tensor {
	if m.adapters != nil {
		return m.adapters.tensors
	}
	return m.tensors
}

// adapter is what a linear layer adds for LoRA.
type adapter struct {
	rank         int
	scale        float32
	precision    kernels.Precision
	a, b, da, db []float32 // [r,in], [out,r] and their gradients, nil without
}

// adapters are the LoRA part of a model. A scalar head is trained with them.
type adapters struct {
	config  LoRA
	base    models.Ref
	tensors []models.Tensor
	params  []float32
	grads   []float32
}

// linearsOf names the adaptable matrices of layer i.
func (m *Model) linearsOf(i int) map[string]*linear {
	l := &m.layers[i]
	return map[string]*linear{"q_proj": &l.q, "k_proj": &l.k, "v_proj": &l.v, "o_proj": &l.o, "gate_proj": &l.gate, "up_proj": &l.up,
		"down_proj": &l.down}
}

func moduleName(layer int, target string) string {
	block := "self_attn"
	switch target {
	case "gate_proj", "up_proj", "down_proj":
		block = "mlp"
	}
	return fmt.Sprintf("model.layers.%d.%s.%s", layer, block, target)
}

// AddLoRA gives the model adapters that change nothing yet: A is drawn from U(±1/√in) as keyed by seed and name, B is 0. From
// then on a Trainer moves the adapters, and a scalar head if there is one, and Save writes them alone, in the layout of
// Hugging Face PEFT; base says where the frozen weights lie.
func (m *Model) AddLoRA(c LoRA, seed uint64, base models.Ref) error {
	if err := setting.Check(c); err != nil {
		return setting.In("lora", err)
	}
	if m.adapters != nil || m.frozen() {
		return errors.New("transformer: the model has adapters already, or is frozen")
	}
	m.allocateAdapters(c, base)
	for _, t := range m.adapters.tensors {
		if !strings.HasSuffix(t.Name, "lora_A.weight") {
			continue
		}
		key := keyed.New(seed).With(hashName(t.Name))
		bound := 1 / math.Sqrt(float64(t.Shape[1]))
		for i := range t.Param {
			t.Param[i] = float32(bound * (2*key.With(uint64(i)).Uniform() - 1))
		}
	}
	return nil
}

func (m *Model) allocateAdapters(c LoRA, base models.Ref) {
	ad := &adapters{config: c, base: base}
	n := 0
	add := func(name string, shape ...int) {
		ad.tensors = append(ad.tensors, models.Tensor{Name: name, Shape: shape})
		n += shape[0] * shape[1]
	}
	for i := range m.layers {
		linears := m.linearsOf(i)
		for _, target := range c.targets() {
			name := "base_model.model." + moduleName(i, target)
			add(name+".lora_A.weight", c.Rank, linears[target].in)
			add(name+".lora_B.weight", linears[target].out, c.Rank)
		}
	}
	if m.scalar != nil {
		add(ScalarHeadName, 1, m.config.Hidden)
	}
	ad.params = make([]float32, n)
	if m.scalar != nil {
		copy(ad.params[n-m.config.Hidden:], m.scalar)
	}
	m.adapters = ad
	m.bindAdapters()
}

// addAdaptedHead puts a scalar head of zeros behind the adapters.
func (m *Model) addAdaptedHead() {
	ad := m.adapters
	ad.tensors = append(ad.tensors, models.Tensor{Name: ScalarHeadName, Shape: []int{1, m.config.Hidden}})
	ad.params = append(ad.params, make([]float32, m.config.Hidden)...)
	m.scalar = ad.params[len(ad.params)-m.config.Hidden:]
	m.bindAdapters()
}

// bindAdapters points the layers at the adapters.
func (m *Model) bindAdapters() {
	ad := m.adapters
	at := 0
	for i := range ad.tensors {
		t := &ad.tensors[i]
		end := at + size(*t)
		t.Param = ad.params[at:end:end]
		if ad.grads != nil {
			t.Grad = ad.grads[at:end:end]
		}
		at = end
	}
	next := 0
	for i := range m.layers {
		linears := m.linearsOf(i)
		for _, target := range ad.config.targets() {
			a, b := ad.tensors[next], ad.tensors[next+1]
			next += 2
			linears[target].lora = &adapter{rank: ad.config.Rank, scale: float32(ad.config.Alpha / float64(ad.config.Rank)), precision: m.precision,
				a: a.Param, da: a.Grad, b: b.Param, db: b.Grad}
		}
	}
	if next < len(ad.tensors) { // a scalar head, which the base may not have
		m.scalar, m.dScalar = ad.tensors[next].Param, ad.tensors[next].Grad
	}
}

// lowRank holds memory for the [rows,rank] products.
var lowRank sync.Pool

func borrowLowRank(n int) *[]float32 {
	p, _ := lowRank.Get().(*[]float32)
	if p == nil {
		p = new([]float32)
	}
	fit(p, n)
	return p
}

// forward adds scale · (x Aᵀ) Bᵀ to y [rows,out].
func (l *adapter) forward(y, x []float32, rows, out, in int) {
	u := borrowLowRank(rows * l.rank)
	defer lowRank.Put(u)
	l.precision.MatMulNT(*u, x, l.a, rows, l.rank, in, 0)
	kernels.Scale(l.scale, *u)
	l.precision.MatMulNT(y, *u, l.b, rows, out, l.rank, 1)
}

// backwardInput adds to dx [rows,in].
func (l *adapter) backwardInput(dx, dy []float32, rows, out, in int) {
	du := l.gradient(dy, rows, out)
	defer lowRank.Put(du)
	l.precision.MatMulNN(dx, *du, l.a, rows, in, l.rank, 1)
}

// backwardWeight adds to the gradients of A and B.
func (l *adapter) backwardWeight(dy, x []float32, rows, out, in int) {
	if l.da == nil {
		return
	}
	du, u := l.gradient(dy, rows, out), borrowLowRank(rows*l.rank)
	defer lowRank.Put(du)
	defer lowRank.Put(u)
	l.precision.MatMulTN(l.da, *du, x, l.rank, in, rows, 1)
	l.precision.MatMulNT(*u, x, l.a, rows, l.rank, in, 0)
	kernels.Scale(l.scale, *u)
	l.precision.MatMulTN(l.db, dy, *u, out, l.rank, rows, 1)
}

// gradient is that of the low-rank rows A x, scaled: scale · dy B.
func (l *adapter) gradient(dy []float32, rows, out int) *[]float32 {
	du := borrowLowRank(rows * l.rank)
	l.precision.MatMulNN(*du, dy, l.b, rows, l.rank, out, 0)
	kernels.Scale(l.scale, *du)
	return du
}

// Merge folds the adapters into the weights, W + scale · B A, and drops them: the model is then an ordinary one. Its log-probs
// differ from the adapted model's in the last places.
func (m *Model) Merge() {
	if m.adapters == nil {
		return
	}
	if m.frozen() {
		panic("transformer: a frozen model cannot be merged")
	}
	for i := range m.layers {
		linears := m.linearsOf(i)
		for _, target := range loraTargets {
			l := linears[target]
			if l.lora == nil {
				continue
			}
			b := slices.Clone(l.lora.b)
			kernels.Scale(l.lora.scale, b)
			kernels.MatMulNN(l.w, b, l.lora.a, l.out, l.in, l.lora.rank, 1)
		}
	}
	scalar := m.scalar
	m.adapters = nil
	m.bind()
	if scalar != nil {
		m.AddScalarHead() // it may have come with the adapters
	}
	copy(m.scalar, scalar)
}

// adapterConfig is PEFT's adapter_config.json, as far as it matters here.
type adapterConfig struct {
	Base       string   `json:"base_model_name_or_path"`
	BaseDigest string   `json:"millrace_base_digest,omitempty"`
	Bias       string   `json:"bias"`
	Inference  bool     `json:"inference_mode"`
	Alpha      float64  `json:"lora_alpha"`
	Dropout    float64  `json:"lora_dropout"`
	Type       string   `json:"peft_type"`
	Rank       int      `json:"r"`
	Targets    []string `json:"target_modules"`
	Task       string   `json:"task_type"`

	// Refused unless they have their defaults.
	DoRA     bool            `json:"use_dora"`
	RSLoRA   bool            `json:"use_rslora"`
	FanInOut bool            `json:"fan_in_fan_out"`
	Ranks    map[string]any  `json:"rank_pattern"`
	Alphas   map[string]any  `json:"alpha_pattern"`
	Layers   json.RawMessage `json:"layers_to_transform,omitempty"`
	Saved    json.RawMessage `json:"modules_to_save,omitempty"`
}

const (
	adapterConfigFile = "adapter_config.json"
	// AdapterWeights is the file of an adapter directory that holds its tensors.
	AdapterWeights = "adapter_model.safetensors"
)

// saveAdapters writes the adapters alone, in PEFT's layout.
func (m *Model) saveAdapters(dir string) error {
	ad := m.adapters
	if ad.base.Path == "" {
		return errors.New("transformer: adapters can be saved alone only when the place of the base model is known")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	text, err := json.MarshalIndent(adapterConfig{Base: ad.base.Path, BaseDigest: ad.base.Digest, Bias: "none", Inference: true,
		Alpha: ad.config.Alpha, Type: "LORA", Rank: ad.config.Rank, Targets: ad.config.targets(), Task: "CAUSAL_LM",
		Ranks: map[string]any{}, Alphas: map[string]any{}}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, adapterConfigFile), append(text, '\n'), 0o666); err != nil {
		return err
	}
	if err := m.saveKept(dir); err != nil {
		return err
	}
	tensors := make([]safetensors.NamedTensor, len(ad.tensors))
	for i, t := range ad.tensors {
		tensors[i] = safetensors.NamedTensor{Name: t.Name, Shape: t.Shape, Values: t.Param}
	}
	return safetensors.Write(filepath.Join(dir, AdapterWeights), tensors, map[string]string{"format": "pt"})
}

// IsAdapter reports whether the directory holds adapters.
func IsAdapter(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, adapterConfigFile))
	return err == nil
}

// readAdapterConfig reads the adapter_config.json of a directory.
func readAdapterConfig(dir string) (c adapterConfig, err error) {
	path := filepath.Join(dir, adapterConfigFile)
	text, err := readConfigFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, &ConfigError{path, "(file)", err.Error()}
	}
	return c, nil
}

// AdapterBase is the path of the model that the adapters of a directory belong to.
func AdapterBase(dir string) (string, error) {
	c, err := readAdapterConfig(dir)
	c.Base = whereBaseIs(dir, c.Base)
	if err == nil && IsAdapter(c.Base) {
		err = &ConfigError{filepath.Join(dir, adapterConfigFile), "base_model_name_or_path", "names adapters, not a model"}
	}
	return c.Base, err
}

// ReadAdapter is the setting of the adapters of a directory, and the path of the model they belong to. What cannot be computed here is
// refused.
func ReadAdapter(dir string) (config LoRA, base string, err error) {
	config, c, err := readAdapter(dir)
	return config, whereBaseIs(dir, c.Base), err
}

func readAdapter(dir string) (LoRA, adapterConfig, error) {
	path := filepath.Join(dir, adapterConfigFile)
	c, err := readAdapterConfig(dir)
	if err != nil {
		return LoRA{}, c, err
	}
	given := func(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" && string(raw) != "[]" }
	config := LoRA{Rank: c.Rank, Alpha: c.Alpha, Targets: c.Targets}
	for _, refused := range []struct {
		field string
		when  bool
	}{
		{"peft_type", c.Type != "LORA"}, {"bias", c.Bias != "none" && c.Bias != ""}, {"use_dora", c.DoRA}, {"use_rslora", c.RSLoRA},
		{"fan_in_fan_out", c.FanInOut}, {"rank_pattern", len(c.Ranks) > 0}, {"alpha_pattern", len(c.Alphas) > 0},
		{"layers_to_transform", given(c.Layers)}, {"modules_to_save", given(c.Saved)}, {"target_modules", len(c.Targets) == 0},
	} {
		if refused.when {
			return LoRA{}, c, &ConfigError{path, refused.field, "this setting of an adapter is not supported"}
		}
	}
	if err := setting.Check(config); err != nil {
		return LoRA{}, c, &ConfigError{path, "(lora)", err.Error()}
	}
	return config, c, nil
}

// nearBases are where the base model of adapters may lie if both belong to one run that was moved or forked: as many folders up as the
// model of an iteration is below its run, and then by the last two names of the base, as models of iterations have them, or by the last,
// as those have it that a run makes before its first. There are none for paths without as many, and for addresses.
func nearBases(dir, base string) []string {
	parent := filepath.Dir(filepath.Clean(base))
	if strings.Contains(base, "://") || strings.Contains(dir, "://") || !filepath.IsAbs(parent) || parent == filepath.Dir(parent) {
		return nil
	}
	run := filepath.Join(dir, "..", "..")
	return []string{filepath.Join(run, filepath.Base(parent), filepath.Base(base)), filepath.Join(run, filepath.Base(base))}
}

// whereBaseIs is the path of a base, or near the adapters, where it is not there and something is here. Whether it is the same model
// is known when it is loaded.
func whereBaseIs(dir, base string) string {
	for _, at := range append([]string{base}, nearBases(dir, base)...) {
		if _, err := os.Stat(at); err == nil {
			return at
		}
	}
	return base
}

// fetchBase finds the base model of the adapters in dir: where they say, or else, with the same digest, near them.
func fetchBase(ctx context.Context, dir string, base models.Ref) (models.Ref, *models.Copy, error) {
	here, err := fetchExactly(ctx, base)
	if err == nil || base.Digest == "" {
		return base, here, err
	}
	for _, near := range nearBases(dir, base.Path) {
		moved := models.Ref{Path: near, Digest: base.Digest}
		if there, e := fetchExactly(ctx, moved); e == nil {
			return moved, there, nil
		}
	}
	return base, nil, err
}

// fetchExactly fetches a model and holds it to its digest, if any.
func fetchExactly(ctx context.Context, ref models.Ref) (*models.Copy, error) {
	here, err := models.Fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	if here.Path == ref.Path && ref.Digest != "" {
		got, err := models.Digest(ref.Path)
		if err == nil && got != ref.Digest {
			err = &models.DigestError{Path: ref.Path, Want: ref.Digest, Got: got}
		}
		if err != nil {
			here.Release()
			return nil, err
		}
	}
	return here, nil
}

// LoadAdapters reads a PEFT directory; load reads the base model that it names.
func LoadAdapters(ctx context.Context, dir string, load func(path string) (*Model, error)) (*Model, error) {
	path := filepath.Join(dir, adapterConfigFile)
	config, c, err := readAdapter(dir)
	if err != nil {
		return nil, err
	}
	base, here, err := fetchBase(ctx, dir, models.Ref{Path: c.Base, Digest: c.BaseDigest})
	if err != nil {
		return nil, fmt.Errorf("%s: base_model_name_or_path: %w", path, err)
	}
	defer here.Release()
	if IsAdapter(here.Path) {
		return nil, &ConfigError{path, "base_model_name_or_path", "names adapters, not a model"}
	}
	m, err := load(here.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: base_model_name_or_path: %w", path, err)
	}
	f, err := safetensors.Open(filepath.Join(dir, AdapterWeights))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Has(ScalarHeadName) {
		m.AddScalarHead()
	}
	m.allocateAdapters(config, base)
	for _, t := range m.adapters.tensors {
		if t.Name == ScalarHeadName && !f.Has(t.Name) {
			continue // the base model's stays
		}
		if !f.Has(t.Name) {
			return nil, &CheckpointError{dir, t.Name, fmt.Sprintf("is missing; adapter_config.json asks for shape %v", t.Shape)}
		}
		have, err := f.Shape(t.Name)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(have, t.Shape) {
			return nil, &CheckpointError{dir, t.Name, fmt.Sprintf("has shape %v, adapter_config.json asks for %v", have, t.Shape)}
		}
		if err := f.Float32Into(t.Param, t.Name); err != nil {
			return nil, err
		}
	}
	for _, name := range f.Names() {
		if !slices.ContainsFunc(m.adapters.tensors, func(t models.Tensor) bool { return t.Name == name }) {
			return nil, &CheckpointError{dir, name, "is no part of what adapter_config.json asks for; without it the model would be another"}
		}
	}
	return m, nil
}
