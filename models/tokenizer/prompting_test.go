package tokenizer

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/setting"
)

func TestPrompterPlain(t *testing.T) {
	tok := NewProvingGround(false)
	p, err := NewPrompter(tok, Prompting{Instruction: "=a"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Encode("1+2", "")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := tok.Encode("1+2=a")
	if !slices.Equal(got, append(slices.Clone(tok.Prefix()), want...)) || !slices.Equal(p.End(), tok.EOS()) {
		t.Errorf("%v, want %v; ends %v", got, want, p.End())
	}
	if _, err := NewPrompter(tok, Prompting{Template: true}); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("a tokenizer without a template: %v", err)
	}
	if other, err := p.Encode("1+2", `[{"role": "user", "content": "3"}]`); err != nil || !slices.Equal(other, got) {
		t.Errorf("messages count without a template: %v %v", other, err)
	}
}

func TestPrompterTemplate(t *testing.T) {
	tok, err := NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPrompter(tok, Prompting{Template: true, System: "be brief", Instruction: "\nAnswer in a box."})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := p.Encode("What is 1+1?", "")
	if err != nil {
		t.Fatal(err)
	}
	want := "<bos>system\nbe brief<eos><bos>user\nWhat is 1+1?\nAnswer in a box.<eos><bos>assistant\n"
	if got := tok.Decode(ids); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	own, err := p.Encode("mine u", `[{"role": "system", "content": "mine"}, {"role": "user", "content": "u"}]`)
	if err != nil || tok.Decode(own) != "<bos>system\nmine<eos><bos>user\nu\nAnswer in a box.<eos><bos>assistant\n" {
		t.Errorf("%v %q", err, tok.Decode(own))
	}
	for _, bad := range []string{"[]", "{", `[{"content": "no role"}]`} {
		if _, err := p.Encode("u", bad); err == nil {
			t.Errorf("messages %q are taken", bad)
		}
	}
	if !slices.Equal(p.End(), tok.EOS()) {
		t.Errorf("ends %v, the tokenizer's %v", p.End(), tok.EOS())
	}
}

// TestPrompterEndsTurns: the token a template closes an answer with ends responses, also where the tokenizer names another.
func TestPrompterEndsTurns(t *testing.T) {
	tok, err := NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	bos := tok.BOS()
	if bos == None || slices.Contains(tok.EOS(), bos) {
		t.Fatal("the test needs a control token that is not the end token")
	}
	turn := templated{tok, strings.ReplaceAll(bytesTemplate, "message.content + '<eos>'", "message.content + ' \n<bos>\n'")}
	p, err := NewPrompter(turn, Prompting{Template: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := append([]int32{bos}, tok.EOS()...); !slices.Equal(p.End(), want) {
		t.Errorf("ends %v, want %v", p.End(), want)
	}
	words := templated{tok, strings.ReplaceAll(bytesTemplate, "message.content + '<eos>'", "message.content + '\n'")}
	if p, err = NewPrompter(words, Prompting{Template: true}); err != nil || !slices.Equal(p.End(), tok.EOS()) {
		t.Errorf("a template that ends turns with text: %v %v", p.End(), err)
	}
	if _, err := NewPrompter(templated{tok, "{{ raise_exception('no') }}"}, Prompting{Template: true}); err == nil {
		t.Error("a template that refuses every conversation")
	}
}

type templated struct {
	Tokenizer
	template string
}

func (t templated) ChatTemplate() string { return t.template }

func TestPromptingJSON(t *testing.T) {
	var p Prompting
	if err := json.Unmarshal([]byte(`{"template": true, "variables": {"enable_thinking": false, "a": [1, "x"]}}`), &p); err != nil {
		t.Fatal(err)
	}
	if err := setting.Check(p); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again Prompting
	if err := json.Unmarshal(text, &again); err != nil || again != p {
		t.Errorf("%s: %v", text, err)
	}
	tok, err := NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	prompter, err := NewPrompter(templated{tok, "{% if enable_thinking == false %}off{% else %}on{% endif %}" + bytesTemplate}, p)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := prompter.Encode("q", ""); err != nil || !strings.HasPrefix(tok.Decode(ids), "off<bos>") {
		t.Errorf("%v %q", err, tok.Decode(ids))
	}
	for text, want := range map[string]string{
		`{"variables": 3}`: "section of keys",
		`{"template": true, "variables": {"messages": []}}`: "the conversation's own",
		`{"variables": {"a": 1}}`:                           "template: true",
		`{"system": "x"}`:                                   "system: ",
	} {
		var p Prompting
		err := json.Unmarshal([]byte(text), &p)
		if err == nil {
			err = setting.Check(p)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
