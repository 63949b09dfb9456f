package rollout

import (
	"encoding/binary"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
)

// sampled is one response with the prompt it answers: row of the prompts' record, and what the generator returned.
type sampled struct {
	row      int
	prompt   []int32
	response models.Response
}

// columns turns responses into the columns the stage adds, in the order given.
func columns(rows []sampled, prompts []uuid.UUID, seed uint64, tok tokenizer.Tokenizer, defined schemas.LogPDefinition,
	candidates bool) []schemas.Filled {
	n := len(rows)
	ids, samples := make([]uuid.UUID, n), make([]int32, n)
	promptTokens, responseTokens := make([][]int32, n), make([][]int32, n)
	texts, finish, ends := make([]string, n), make([]string, n), make([][]int32, n)
	logp, logz, known := make([][]float32, n), make([][]float32, n), make([]bool, n)
	candidateIDs, candidateLogP := make([][][]int32, n), make([][][]float32, n)
	for i, s := range rows {
		r := s.response
		ids[i] = ResponseID(seed, prompts[i], r.Sample)
		samples[i] = int32(r.Sample)
		promptTokens[i], responseTokens[i] = s.prompt, r.Tokens
		texts[i], ends[i] = tokenizer.TextEnds(tok, r.Tokens)
		finish[i] = r.Finish.String()
		logp[i], logz[i], known[i] = r.LogP, r.LogZ, r.LogP != nil
		if candidates {
			candidateIDs[i], candidateLogP[i] = split(r.CandidateStart, r.CandidateIDs), split(r.CandidateStart, r.CandidateLogP)
		}
	}
	out := []schemas.Filled{
		schemas.ResponseID.From(ids), schemas.Sample.From(samples),
		schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(responseTokens),
		schemas.Response.From(texts), schemas.TokenEnds.FromRows(ends), schemas.FinishReason.From(finish),
		schemas.OldLogP.FromRows(logp, known...).Defined(defined), schemas.OldLogZ.FromRows(logz, known...),
	}
	if candidates {
		out = append(out, schemas.CandidateIDs.FromRows(candidateIDs),
			schemas.CandidateOldLogP.FromRows(candidateLogP, known...).Defined(defined))
	}
	return out
}

// split cuts flat values at the starts: one slice a token.
func split[T any](starts []int32, values []T) [][]T {
	if len(starts) == 0 {
		return nil
	}
	out := make([][]T, len(starts)-1)
	for t := range out {
		out[t] = values[starts[t]:starts[t+1]:starts[t+1]]
	}
	return out
}

// ResponseID is the uuid v5, in the namespace of its prompt, of the seed and the sample's index.
func ResponseID(seed uint64, prompt uuid.UUID, sample int) uuid.UUID {
	var name [16]byte
	binary.LittleEndian.PutUint64(name[:8], seed)
	binary.LittleEndian.PutUint64(name[8:], uint64(sample))
	return uuid.NewSHA1(prompt, name[:])
}

// elsewhere are the columns of responses that another engine sampled: what it says of their tokens is its own.
func (c *Sampler) elsewhere(rows []sampled, filled []schemas.Filled) []schemas.Filled {
	filled = slices.DeleteFunc(filled, func(f schemas.Filled) bool {
		return f.Name == schemas.OldLogP.Name || f.Name == schemas.OldLogZ.Name || f.Name == schemas.CandidateOldLogP.Name
	})
	logp, known, versions := make([][]float32, len(rows)), make([]bool, len(rows)), make([]int32, len(rows))
	for i, s := range rows {
		logp[i], known[i], versions[i] = s.response.LogP, s.response.LogP != nil, int32(c.Version)
	}
	return append(filled, schemas.SamplerLogP.FromRows(logp, known...).Defined(c.defined()), schemas.PolicyVersion.From(versions))
}
