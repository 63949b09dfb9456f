package update

import (
	"fmt"
	"math"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
)

// unit is what a minibatch is made of: one response, or a pair of responses that must stay together.
type unit struct {
	table     *table
	row       int
	responses []side
	tokens    int // prompt and response tokens, both sides together
}

// side is one response of a unit: which token column holds it and what it is to the loss.
type side struct {
	role   losses.Role
	prefix string // "", "chosen_" or "rejected_"
	// temperature of sampling, at which log-probs are that the policy is compared with; 0: 1.
	temperature float64
}

var (
	responseSides = []side{{role: losses.Sample}}
	pairSides     = []side{{role: losses.Chosen, prefix: "chosen_"}, {role: losses.Rejected, prefix: "rejected_"}}
)

// table gives the columns of one record that the loss reads, as typed views. Lists of a side are kept by their column name.
type table struct {
	record  schemas.Record
	prompt  schemas.Lists[int32]
	ints    map[string]schemas.Lists[int32]
	floats  map[string]schemas.Lists[float32]
	nestedI map[string]schemas.NestedLists[int32]
	nestedF map[string]schemas.NestedLists[float32]
	scalars map[string]schemas.Scalars[float32]
	masks   []mask
}

// mask is a column that leaves tokens out of the loss.
type mask struct {
	name string
	schemas.Lists[int32]
	needed bool // a row without it is not learned from
}

// newTable finds the columns; an error names the one that is missing.
func newTable(r schemas.Record, spec losses.Spec, sides []side) (*table, error) {
	t := &table{record: r,
		ints: map[string]schemas.Lists[int32]{}, floats: map[string]schemas.Lists[float32]{},
		nestedI: map[string]schemas.NestedLists[int32]{}, nestedF: map[string]schemas.NestedLists[float32]{},
		scalars: map[string]schemas.Scalars[float32]{}}
	var err error
	if t.prompt, err = schemas.PromptTokens.Find(r); err != nil {
		return nil, err
	}
	for _, s := range sides {
		for _, in := range inputsOf(spec, s) {
			if err := t.find(s.column(in), in, s.definition(in)); err != nil {
				return nil, err
			}
		}
	}
	if found, err := schemas.TokenMask.Find(r); err == nil && slices.Contains(spec.Inputs, losses.Advantage) {
		t.masks = append(t.masks, mask{schemas.TokenMask.Name, found, true})
	}
	if found, err := schemas.LossMask.Find(r); err == nil && len(sides) == 1 && sides[0].prefix == "" {
		t.masks = append(t.masks, mask{schemas.LossMask.Name, found, false})
	}
	return t, nil
}

// inputsOf lists what a side of a unit is filled with. Its tokens come first: every loss is given them.
func inputsOf(spec losses.Spec, s side) []*losses.Input {
	out := []*losses.Input{losses.ResponseTokens}
	for _, in := range spec.Of(s.role) {
		if in != losses.ResponseTokens {
			out = append(out, in)
		}
	}
	return out
}

// tempers reports whether the input is read at the temperature of sampling.
func (s side) tempers(in *losses.Input) bool {
	return s.temperature != 0 && slices.Contains(losses.Tempered, in)
}

// definition is what log-probs of the input must be.
func (s side) definition(in *losses.Input) schemas.LogPDefinition {
	if s.tempers(in) {
		return schemas.FullLogP("").At(s.temperature)
	}
	return schemas.FullLogP("")
}

// column is the record's column that an input of the side comes from.
func (s side) column(in *losses.Input) string {
	if in == losses.ResponseTokens && s.prefix != "" {
		return s.prefix + "tokens"
	}
	if s.tempers(in) {
		return "tempered_" + in.Name
	}
	return s.prefix + in.Name
}

func (t *table) find(name string, in *losses.Input, want schemas.LogPDefinition) error {
	c, ok := schemas.ByName(name)
	if !ok {
		return &schemas.ColumnError{Column: name, Reason: "is not a column of any stage"}
	}
	var err error
	switch ids := in.Field == nil; {
	case in.Per == losses.PerResponse:
		c.Type = schemas.Outcome.Type
		t.scalars[name], err = schemas.Scalar[float32]{Column: c}.Find(t.record)
	case in.Per == losses.PerSampled && ids:
		c.Type = schemas.ResponseTokens.Type
		t.ints[name], err = schemas.List[int32]{Column: c}.Find(t.record)
	case in.Per == losses.PerRow || in.Per == losses.PerSampled:
		c.Type = schemas.OldLogP.Type
		t.floats[name], err = schemas.List[float32]{Column: c}.Find(t.record)
	case ids:
		c.Type = schemas.CandidateIDs.Type
		t.nestedI[name], err = schemas.Nested[int32]{Column: c}.Find(t.record)
	default:
		c.Type = schemas.CandidateOldLogP.Type
		t.nestedF[name], err = schemas.Nested[float32]{Column: c}.Find(t.record)
	}
	// The losses compare log-probs with those of the model that is trained.
	if have, ok := schemas.LogPOf(t.record, schemas.List[float32]{Column: c}); ok && !want.Matches(have) {
		return &schemas.DefinitionError{Stage: "update", Column: name, Want: want, Have: have}
	}
	return err
}

// usable returns the row's tokens, or the column for whose sake it cannot enter the loss: it has no tokens, or a column that the loss
// reads is null.
func (t *table) usable(row int, spec losses.Spec, sides []side) (tokens int, missing string) {
	if len(t.prompt.Row(row)) == 0 {
		return 0, schemas.PromptTokens.Name
	}
	for _, s := range sides {
		n := len(t.ints[s.column(losses.ResponseTokens)].Row(row))
		if n == 0 {
			return 0, s.column(losses.ResponseTokens)
		}
		tokens += n + len(t.prompt.Row(row))
		for _, in := range inputsOf(spec, s) {
			if !t.valid(s.column(in), row) {
				return 0, s.column(in)
			}
		}
	}
	for _, m := range t.masks {
		if !m.Valid(row) && m.needed || m.Valid(row) && !slices.ContainsFunc(m.Row(row), func(x int32) bool { return x != 0 }) {
			return 0, m.name
		}
	}
	return tokens, ""
}

func (t *table) valid(name string, row int) bool {
	if v, ok := t.ints[name]; ok {
		return v.Valid(row)
	}
	if v, ok := t.floats[name]; ok {
		return v.Valid(row)
	}
	if v, ok := t.nestedI[name]; ok {
		return v.Valid(row)
	}
	if v, ok := t.nestedF[name]; ok {
		return v.Valid(row)
	}
	v := t.scalars[name]
	return v.Valid(row)
}

// fill makes the microbatch of the units, and the sequences whose response tokens its rows are.
func fill(units []unit, spec losses.Spec) ([]models.Sequence, *losses.Microbatch, error) {
	var sequences []models.Sequence
	var lengths []int
	for _, u := range units {
		for _, s := range u.responses {
			response := u.table.ints[s.column(losses.ResponseTokens)].Row(u.row)
			sequences = append(sequences, models.Sequence{Prompt: u.table.prompt.Row(u.row), Response: response})
			lengths = append(lengths, len(response))
		}
	}
	mb := losses.NewMicrobatch(lengths, nil)
	mb.List = mb.List[:1]
	n := mb.N()
	if slices.ContainsFunc(units, func(u unit) bool { return len(u.table.masks) > 0 }) {
		mb.Rows.Mask = make([]float64, 0, n)
	}
	if spec.Reads(losses.CandidateIDs) {
		mb.Candidates = make([]losses.Span, 0, n)
	}
	if spec.Reads(losses.TeacherIDs) {
		mb.Teacher = make([]losses.Span, 0, n)
	}
	for _, u := range units {
		for _, s := range u.responses {
			if err := fillResponse(mb, u, s, spec); err != nil {
				return nil, nil, err
			}
		}
	}
	return sequences, mb, mb.Check(spec)
}

// fillResponse adds one response: its tokens with their lists, then every field that an input fills.
func fillResponse(mb *losses.Microbatch, u unit, s side, spec losses.Spec) error {
	tab, row := u.table, u.row
	tokens := tab.ints[s.column(losses.ResponseTokens)].Row(row)
	given := spec.Of(s.role)
	first := len(mb.List) - 1
	for t, token := range tokens {
		if err := fillList(mb, u, s, given, t, token); err != nil {
			return err
		}
	}
	mb.Responses.Role = append(mb.Responses.Role, s.role)
	if mb.Rows.Mask != nil {
		if err := tab.addMask(mb, row, len(tokens)); err != nil {
			return err
		}
	}
	inputs := spec.Of(losses.Sample)
	// A sampled token that is a candidate too takes the candidate's number.
	slices.SortStableFunc(inputs, func(a, b *losses.Input) int { return int(a.Per) - int(b.Per) })
	for _, in := range inputs {
		if in.Field == nil {
			continue
		}
		if err := fillField(mb, u, s, in, first, len(tokens), slices.Contains(given, in)); err != nil {
			return err
		}
	}
	return nil
}

// fillField adds what an input says of the response whose n rows begin at row first; what is not given is 0, or NaN where
// it is one number.
func fillField(mb *losses.Microbatch, u unit, s side, in *losses.Input, first, n int, given bool) error {
	tab, row, name, into := u.table, u.row, s.column(in), in.Field(mb)
	switch in.Per {
	case losses.PerResponse:
		x, known := float32(0), false
		if given {
			x, known = tab.scalars[name].At(row)
		}
		if !known {
			x = float32(math.NaN())
		}
		*into = append(*into, float64(x))
		return nil
	case losses.PerRow:
		if !given {
			*into = append(*into, make([]float64, n)...)
			return nil
		}
		return addRows(into, name, row, tab.floats[name].Row(row), n)
	}
	if more := len(mb.Listed.ID) - len(*into); more > 0 { // the first input of this field
		*into = append(*into, make([]float64, more)...)
	}
	if !given {
		return nil
	}
	if in.Per == losses.PerSampled {
		xs := tab.floats[name].Row(row)
		for t, x := range xs[:min(n, len(xs))] {
			(*into)[mb.Sampled(first+t)] = float64(x)
		}
		return sameLength(name, row, len(xs), n)
	}
	for t := range n {
		span := mb.CandidatesOf(first + t)
		if in.Per == losses.PerTeacher {
			span = mb.TeacherOf(first + t)
		}
		if err := copyItem((*into)[span.Lo:span.Hi], tab, name, row, t); err != nil {
			return err
		}
	}
	return nil
}

// addMask adds 1 for each of a row's n tokens that no mask leaves out.
func (t *table) addMask(mb *losses.Microbatch, row, n int) error {
	at := len(mb.Rows.Mask)
	for range n {
		mb.Rows.Mask = append(mb.Rows.Mask, 1)
	}
	for _, m := range t.masks {
		if !m.Valid(row) {
			continue
		}
		own := m.Row(row)
		if err := sameLength(m.name, row, len(own), n); err != nil {
			return err
		}
		for i, x := range own {
			mb.Rows.Mask[at+i] *= float64(x)
		}
	}
	return nil
}

// addRows adds a number for each of the response's n tokens.
func addRows[T schemas.Number](into *[]float64, name string, row int, xs []T, n int) error {
	for _, x := range xs {
		*into = append(*into, float64(x))
	}
	return sameLength(name, row, len(xs), n)
}

// fillList lists the tokens of one row: the sampled one, then the other candidates, then the teacher's.
func fillList(mb *losses.Microbatch, u unit, s side, given []*losses.Input, t int, token int32) error {
	tab, row := u.table, u.row
	first := len(mb.Listed.ID)
	mb.Listed.ID = append(mb.Listed.ID, token)
	if mb.Candidates != nil {
		span := losses.Span{}
		ids, err := tab.listed(s, losses.CandidateIDs, given, row, t)
		if err != nil {
			return err
		}
		if len(ids) > 0 && !tab.idle(mb, s, given, row, t) {
			if ids[0] != token {
				return fmt.Errorf("column %q: row %d, token %d: slot 0 holds token %d, not the sampled token %d",
					s.column(losses.CandidateIDs), row, t, ids[0], token)
			}
			span = losses.Span{Lo: first, Hi: first + len(ids)}
			mb.Listed.ID = append(mb.Listed.ID, ids[1:]...)
		}
		mb.Candidates = append(mb.Candidates, span)
	}
	if mb.Teacher != nil {
		ids, err := tab.listed(s, losses.TeacherIDs, given, row, t)
		if err != nil {
			return err
		}
		mb.Teacher = append(mb.Teacher, losses.Span{Lo: len(mb.Listed.ID), Hi: len(mb.Listed.ID) + len(ids)})
		mb.Listed.ID = append(mb.Listed.ID, ids...)
	}
	mb.List = append(mb.List, len(mb.Listed.ID))
	return nil
}

// listed are the tokens of one of the lists at a token, none where the loss reads that list of other responses only.
func (t *table) listed(s side, list *losses.Input, given []*losses.Input, row, token int) ([]int32, error) {
	if !slices.Contains(given, list) {
		return nil, nil
	}
	return item(t.nestedI, s.column(list), row, token)
}

// idle reports whether nothing pushes the candidates of a token: the column that would is empty there. Such a position has
// no candidate update.
func (t *table) idle(mb *losses.Microbatch, s side, given []*losses.Input, row, token int) bool {
	for _, in := range given {
		if in.Per == losses.PerCandidate && in.Field != nil && in.Field(mb) == &mb.Listed.Advantage {
			if lists := t.nestedF[s.column(in)].Row(row); token < lists.Len() && len(lists.Row(token)) == 0 {
				return true
			}
		}
	}
	return false
}

// copyItem copies the numbers of one token of a nested column, which must be as many as the token lists; a token that lists
// none may have any.
func copyItem(dst []float64, tab *table, name string, row, t int) error {
	if len(dst) == 0 {
		return nil
	}
	xs, err := item(tab.nestedF, name, row, t)
	if err != nil {
		return err
	}
	if len(xs) != len(dst) {
		return fmt.Errorf("column %q: row %d, token %d has %d values for %d listed tokens", name, row, t, len(xs), len(dst))
	}
	for i, x := range xs {
		dst[i] = float64(x)
	}
	return nil
}

func item[T schemas.Number](columns map[string]schemas.NestedLists[T], name string, row, t int) ([]T, error) {
	v, ok := columns[name]
	if !ok {
		return nil, &schemas.ColumnError{Column: name, Reason: "is missing"}
	}
	lists := v.Row(row)
	if t >= lists.Len() {
		return nil, fmt.Errorf("column %q: row %d lists tokens at %d positions, want one list for each of its tokens", name, row, lists.Len())
	}
	return lists.Row(t), nil
}

func sameLength(column string, row, got, want int) error {
	if got != want {
		return fmt.Errorf("column %q: row %d has %d values for %d tokens", column, row, got, want)
	}
	return nil
}
