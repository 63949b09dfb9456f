package export

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// need refuses rows that lack a column that a format cannot do without.
func need(format string, heads []stage.Batch, columns ...schemas.Descriptor) error {
	for _, rows := range heads {
		for _, d := range columns {
			c := d.Describe()
			if !rows.Has(c) {
				return setting.Errorf("rows", "have no column %q, which %s needs: %s The stage %s makes it (docs/columns.md)", c.Name, format, c.Doc,
					c.Stage)
			}
			if err := rows.Check(c); err != nil {
				return setting.Errorf("rows", "%v", err)
			}
		}
	}
	return nil
}

// Sampled are the settings of formats with log-probs of the sampled tokens.
type Sampled struct {
	Temperature float64 `json:"temperature" range:"[0,inf)" doc:"of files without their run: the temperature that responses were sampled at, from all tokens; 0: not known"`
}

// sampledColumn is the column of the log-probs at the temperature of sampling.
func sampledColumn(rows stage.Batch) schemas.List[float32] {
	if rows.Has(schemas.TemperedOldLogP) {
		return schemas.TemperedOldLogP
	}
	return schemas.OldLogP
}

// check refuses log-probs that the trainer would take for those of another distribution. It recomputes them from logits that are divided
// by the temperature of sampling, over all tokens; a trainer that divides by nothing is fixed.
func (s Sampled) check(format string, fixed bool, of Origin, heads []stage.Batch) error {
	for _, rows := range heads {
		column := sampledColumn(rows)
		if err := need(format, []stage.Batch{rows}, column); err != nil {
			return err
		}
		def, ok := schemas.LogPOf(rows, column)
		if !ok {
			return setting.Errorf("rows", "column %q does not say of which model and distribution its log-probs are; want the field metadata "+
				"millrace.logp, as Millrace writes it", column.Name)
		}
		at, err := s.sampledAt(format, column, def, of.Sampling)
		switch {
		case err != nil:
			return err
		case def.TopP < 1 || def.TopK > 0:
			return setting.Errorf("rows", "column %q holds %v; the trainer that reads %s computes log-probs over the full vocabulary, so the "+
				"ratio of the two would be of two distributions; sample without top-p and top-k", column.Name, def, format)
		case fixed && at != 1:
			return setting.Errorf("temperature", "responses were sampled at %g; the trainer that reads %s computes log-probs at temperature 1 and "+
				"takes the responses for samples of that distribution; sample at temperature 1", at, format)
		case def.Temperature != at:
			return setting.Errorf("rows", "column %q holds %v, and the responses were sampled at temperature %g; the trainer that reads %s "+
				"divides logits by the temperature of sampling; want column %q, which a run of kind policy keeps where it samples at another "+
				"temperature than 1", column.Name, def, at, format, schemas.TemperedOldLogP.Name)
		}
	}
	return nil
}

// sampledAt is the temperature of sampling: as the run says, the setting, or the column that is of that temperature by its meaning.
func (s Sampled) sampledAt(format string, column schemas.List[float32], def schemas.LogPDefinition, run *Sampling) (float64, error) {
	switch {
	case run != nil && s.Temperature != 0 && s.Temperature != run.Temperature:
		return 0, setting.Errorf("temperature", "%g, and the run sampled at %g; leave it out", s.Temperature, run.Temperature)
	case run != nil:
		var by []string
		if run.Greedy {
			by = append(by, "greedily")
		}
		if run.TopP > 0 && run.TopP < 1 {
			by = append(by, fmt.Sprintf("with top-p %g", run.TopP))
		}
		if run.TopK > 0 {
			by = append(by, fmt.Sprintf("with top-k %d", run.TopK))
		}
		if run.MinNewTokens > 0 {
			by = append(by, fmt.Sprintf("with min_new_tokens %d", run.MinNewTokens))
		}
		if by != nil {
			return 0, setting.Errorf("rows", "the run sampled %s, and column %q holds log-probs over the full vocabulary; the trainer that "+
				"reads %s would take the responses for samples of that distribution; sample by the temperature alone",
				strings.Join(by, " and "), column.Name, format)
		}
		return run.Temperature, nil
	case s.Temperature != 0:
		return s.Temperature, nil
	case column.Name == schemas.TemperedOldLogP.Name:
		return def.Temperature, nil
	}
	return 0, setting.Errorf("temperature", "is not known: files do not say at which temperature their responses were sampled, and %s "+
		"needs log-probs at that one; export the run instead, or set it", format)
}

// needScore refuses rows that nobody judged.
func needScore(format string, heads []stage.Batch) error {
	for _, rows := range heads {
		if !rows.Has(schemas.Reward) && !rows.Has(schemas.Outcome) {
			return setting.Errorf("rows", "have neither a column %q nor %q, of which %s needs one: how good a response is", schemas.Reward.Name,
				schemas.Outcome.Name, format)
		}
	}
	return nil
}
