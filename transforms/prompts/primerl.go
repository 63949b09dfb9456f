package prompts

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/schemas"
)

// primeRL are the traces of rollouts that prime-rl and verifiers (v1, trace version 4) write: a graph of messages, each with the tokens
// that it adds to the sequence. Every path from a root to a leaf is a row.
type primeRL struct{}

func init() { layouts["prime-rl"] = primeRL{} }

func (primeRL) tells(row map[string]any) bool {
	_, nodes := row["nodes"].([]any)
	return nodes && object(row, "task") != nil
}

// node is a message of a trace.
type node struct {
	parent              int // -1 of a root
	message             any
	sampled, hasChild   bool
	ids, mask, logProbs []any
	finish              any
	at                  string
}

func (primeRL) nodes(row map[string]any) ([]node, error) {
	list, err := listAt(row, "nodes", "trace")
	if err != nil {
		return nil, err
	}
	out := make([]node, len(list))
	for i := range list {
		m, err := item(list, i, "nodes")
		if err != nil {
			return nil, err
		}
		n := node{parent: -1, message: m["message"], finish: m["finish_reason"], at: fmt.Sprintf("nodes[%d]", i)}
		n.sampled, _ = m["sampled"].(bool)
		if p, ok := m["parent"].(json.Number); ok {
			k, err := p.Int64()
			if err != nil || k < 0 || int(k) >= i {
				return nil, bad(schemas.ReasonMismatch, "%s.parent is %s, want the index of a node before it", n.at, p)
			}
			n.parent, out[k].hasChild = int(k), true
		}
		for key, into := range map[string]*[]any{"token_ids": &n.ids, "mask": &n.mask, "logprobs": &n.logProbs} {
			if *into, err = listAt(m, key, n.at); err != nil {
				return nil, err
			}
		}
		if len(n.mask) != len(n.ids) {
			return nil, bad(schemas.ReasonMismatch, "%s.mask has %d items for %d token ids", n.at, len(n.mask), len(n.ids))
		}
		out[i] = n
	}
	return out, nil
}

func (p primeRL) rows(row map[string]any) ([]map[string]any, error) {
	nodes, err := p.nodes(row)
	if err != nil {
		return nil, err
	}
	base := without(row, "nodes", "calls", "timing", "state", "tools", "extra_usage", "agent", "errors", "verifiers", "rewards")
	data := object(row, "task", "data")
	if answer := data["answer"]; answer != nil {
		base["answer"] = answer
	}
	if step := object(row, "run")["step"]; step != nil {
		base["step"] = step
	}
	if reward, ok := rewardOf(row); ok {
		base["reward"] = number(reward)
	}
	var how map[string]any
	calls, err := listAt(row, "calls", "trace")
	if err != nil {
		return nil, err
	}
	finish := map[int]any{}
	for i := range calls {
		call, err := item(calls, i, "calls")
		if err != nil {
			return nil, err
		}
		n, linked := call["node"].(json.Number)
		if !linked {
			continue // it has left no message
		}
		if at, err := n.Int64(); err == nil {
			finish[int(at)] = call["finish_reason"]
		}
		this := sampling(object(call, "sampling"))
		if how != nil && fmt.Sprint(this) != fmt.Sprint(how) {
			this = map[string]any{} // not one way
		}
		how = this
	}
	base[sampledBy], base["finish_reason"] = how, ""
	var out []map[string]any
	for leaf := range nodes {
		if nodes[leaf].hasChild {
			continue
		}
		var path []node
		for at := leaf; at >= 0; at = nodes[at].parent {
			n := nodes[at]
			if n.finish == nil {
				n.finish = finish[at]
			}
			path = append([]node{n}, path...)
		}
		fields := without(base)
		if err := p.branch(path, fields); err != nil {
			return nil, err
		}
		out = append(out, fields)
	}
	if len(out) == 0 {
		return nil, bad(schemas.ReasonEmpty, "the trace has no messages")
	}
	return out, nil
}

// branch fills in the fields of a path: as ids where its messages have them, else as a conversation.
func (primeRL) branch(path []node, fields map[string]any) error {
	var ids, mask, logProbs, before, all []any
	first, last := -1, -1
	missing := false
	for k, n := range path {
		all = append(all, n.message)
		if n.sampled {
			last = k
			if first < 0 {
				first = k
			}
		}
		if first < 0 {
			before = append(before, n.message)
		}
		li := 0
		for t, id := range n.ids {
			own, ok := n.mask[t].(bool)
			if !ok {
				return bad(schemas.ReasonBadType, "%s.mask[%d] is %s, want true or false", n.at, t, kindOf(n.mask[t]))
			}
			ids, mask = append(ids, id), append(mask, own)
			var x any = json.Number("0")
			if own {
				if li < len(n.logProbs) {
					x = n.logProbs[li]
				} else {
					missing = true
				}
				li++
			}
			logProbs = append(logProbs, x)
		}
		if li != len(n.logProbs) && len(n.logProbs) > 0 {
			return bad(schemas.ReasonMismatch, "%s has %d log-probs for %d sampled tokens", n.at, len(n.logProbs), li)
		}
	}
	if last < 0 {
		return bad(schemas.ReasonEmpty, "the trace has no message that a model has sampled")
	}
	if finish := path[last].finish; finish != nil {
		fields["finish_reason"] = finish
	}
	begin := 0
	for begin < len(mask) && mask[begin] == false {
		begin++
	}
	if begin == len(mask) { // without ids
		fields["messages"] = all[:last+1]
		return nil
	}
	fields["prompt"] = before
	fields["prompt_tokens"], fields["response_tokens"], fields["loss_mask"] = ids[:begin:begin], ids[begin:], mask[begin:]
	if !missing {
		fields["logprobs"] = logProbs[begin:]
	}
	return nil
}

// rewardOf is the weighted sum of a trace's rewards: numbers, or scores with their weights.
func rewardOf(row map[string]any) (sum float64, ok bool) {
	rewards := object(row, "rewards")
	for _, name := range slices.Sorted(maps.Keys(rewards)) { // the sum of floats depends on the order
		v := rewards[name]
		score, weight := v, any(json.Number("1"))
		if m, is := v.(map[string]any); is {
			score = m["score"]
			if m["weight"] != nil {
				weight = m["weight"]
			}
		}
		s, isScore := score.(json.Number)
		w, isWeight := weight.(json.Number)
		x, err := s.Float64()
		y, wrong := w.Float64()
		if !isScore || !isWeight || err != nil || wrong != nil {
			return 0, false
		}
		sum, ok = sum+x*y, true
	}
	return sum, ok
}

// defines: prime-rl's trainer divides logits by the temperature of sampling, and its engine gives log-probs of the distribution that it
// samples from.
func (primeRL) defines(how sampled) *LogProbs {
	if !(how.temperature > 0) || !(how.topP > 0 && how.topP <= 1) {
		return nil
	}
	return &LogProbs{Temperature: how.temperature, TopP: how.topP, TopK: int(how.topK)}
}
