package command

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/schemas/setting"
)

func TestSettingsPages(t *testing.T) { holdPages(t, settingsPages(method.Schema()), "settings") }

const settingsIntro = `# Settings

Every key that a recipe can have: those of a run as a whole are below, and every section has a page of its own. The pages are written from
the structs that the program decodes recipes into (` + "`" + writePages + "`" + `), and so is
the JSON Schema by which editors check and complete recipes (` + "`millrace recipes --schema`" + `). ` + "`--set path=value`" + ` takes the
same paths, with an index in the place of ` + "`[]`" + `, and ` + "`--set path=null`" + ` takes a key or a section out of the recipe.

What a recipe leaves out has the default; a dash is an empty text or list, or nothing at all. An optional section is there only
where a recipe has it, and what it leaves out then has the default.

`

// settingsPage writes the tables of settings.
type settingsPage struct {
	pageText
	section string           // whose page it is
	title   string           // that is being written below it, of a kind
	seen    map[string]place // sections by what they hold, and where they are written out
	later   []func()         // tables that follow the one that is being written
}

// place is where a section is written out: its path, and the title it is below, if another than that of its page.
type place struct{ path, title string }

// settingsPages are an index and a page for each section, by their paths in docs/.
func settingsPages(s *setting.Schema) map[string]string {
	index, sections := &settingsPage{}, &settingsPage{}
	index.WriteString(settingsIntro + "## The run\n\n")
	index.header()
	sections.WriteString("## Sections\n\n| section | |\n|---|---|\n")
	seen := map[string]place{}
	inner := &settingsPage{seen: seen}
	for _, key := range s.Order {
		if section := s.Properties[key]; sectioned(section) {
			inner.known(key, section)
		}
	}
	pages := map[string]string{}
	for _, lists := range []bool{false, true} { // lists of sections last: what others hold too is written out there
		for _, key := range s.Order {
			own := s.Properties[key]
			switch list := own.Type == "array" && sectioned(own.Items); {
			case sectioned(own) != lists && (sectioned(own) || list):
				meaning := own.Description
				if own.Optional {
					meaning = "optional: " + meaning
				}
				fmt.Fprintf(sections, "| [`%s`](settings/%s.md) | %s |\n", key, key, strings.ReplaceAll(meaning, "|", `\|`))
				page := &settingsPage{section: key, seen: seen}
				page.all(key, own, meaning)
				pages["settings/"+key+".md"] = page.text()
			case !lists && !sectioned(own) && !list:
				index.row(key, own, false)
			}
		}
	}
	pages["settings.md"] = index.String() + "\n" + sections.text()
	return pages
}

func sectioned(s *setting.Schema) bool { return len(s.Properties) > 0 }

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// all writes a section, or a list of sections, from its title on.
func (p *settingsPage) all(key string, s *setting.Schema, meaning string) {
	fmt.Fprintf(p, "# %s\n\n%s. The other [settings](../settings.md).\n\n", key, sentence(meaning))
	path, held := key, s
	if s.Type == "array" {
		path, held = key+"[]", s.Items
	}
	if at, ok := p.known(path, held); ok && at.path != path {
		fmt.Fprintf(p, "Its keys are those of %s.\n", p.link(at))
		return
	}
	p.header()
	p.keys(path, held)
	p.WriteString("\n")
	for len(p.later) > 0 {
		next := p.later[0]
		p.later = p.later[1:]
		next()
	}
}

// link names a section, and leads to where it is written out.
func (p *settingsPage) link(at place) string {
	to := ""
	section, _, _ := strings.Cut(at.path, ".")
	if section = strings.TrimSuffix(section, "[]"); section != p.section {
		to = section + ".md"
	}
	if at.title != "" {
		to += "#" + strings.NewReplacer(".", "", ":", "", "[", "", "]", "", " ", "-").Replace(at.title)
	}
	if to == "" {
		return "`" + at.path + "`"
	}
	return "[`" + at.path + "`](" + to + ")"
}

// known says where a section of the same keys and defaults has been written out.
func (p *settingsPage) known(path string, s *setting.Schema) (at place, ok bool) {
	own := *s
	own.Description = ""
	raw, err := json.Marshal(own)
	if err != nil {
		panic(err) // a schema is plain data
	}
	if at, ok = p.seen[string(raw)]; !ok && len(s.Properties) > 1 {
		p.seen[string(raw)] = place{path, p.title}
	}
	return at, ok
}

func (p *settingsPage) header() {
	p.WriteString("| setting | type | default | range or choices | meaning |\n|---|---|---|---|---|\n")
}

// keys writes the rows of a section, and puts off the tables of its kinds.
func (p *settingsPage) keys(path string, s *setting.Schema) {
	for _, key := range s.Order {
		own := s.Properties[key]
		if own.Const != nil {
			continue
		}
		p.row(setting.Join(path, key), own, slices.Contains(s.Required, key))
	}
	for _, kind := range s.OneOf {
		p.later = append(p.later, func() {
			chosen := ""
			for key, own := range kind.Properties {
				if own.Const != nil {
					chosen = key
				}
			}
			own := *kind
			own.Order = slices.DeleteFunc(slices.Clone(kind.Order), func(key string) bool {
				shared := s.Properties[key]
				return key == chosen || shared != nil && !sectioned(kind.Properties[key])
			})
			p.title = setting.Join(path, chosen) + ": " + kind.Title
			fmt.Fprintf(p, "## `%s`\n\n", p.title)
			if len(own.Order) == 0 {
				p.WriteString("It has no keys of its own.\n\n")
				return
			}
			p.header()
			p.keys(path, &own)
			p.WriteString("\n")
		})
	}
}

// row writes a setting, and the settings in it.
func (p *settingsPage) row(path string, s *setting.Schema, required bool) {
	what, held := s.Type, s
	if s.Type == "" && len(s.OneOf) > 0 && s.OneOf[0].Properties == nil && s.OneOf[0].Type != "" {
		what = s.OneOf[0].Type + " or list of " + s.OneOf[1].Items.Type + "s"
	}
	if s.Type == "array" {
		held, what = s.Items, "list of "+s.Items.Type+"s"
		if sectioned(held) {
			what, path = "list of sections", path+"[]"
		}
	}
	switch {
	case sectioned(s) && s.Optional:
		what = "optional section"
	case sectioned(s):
		what = "section"
	}
	meaning := s.Description
	inside := sectioned(held)
	if inside {
		if at, ok := p.known(path, held); ok {
			meaning += "; its keys are those of " + p.link(at)
			inside = false
		}
	}
	meaning = strings.ReplaceAll(meaning, "|", `\|`)
	fmt.Fprintf(p, "| `%s` | %s | %s | %s | %s |\n", path, what, defaultText(s, required), choices(held), meaning)
	if inside {
		p.keys(path, held)
	}
}

func defaultText(s *setting.Schema, required bool) string {
	if required {
		return "must be given"
	}
	if s.Default == nil || s.Default == "" {
		return "–"
	}
	raw, err := json.Marshal(s.Default)
	if err != nil {
		panic(err) // a schema is plain data
	}
	return "`" + strings.Trim(string(raw), `"`) + "`"
}

func choices(s *setting.Schema) string {
	if s.Enum == nil {
		return s.Range
	}
	var out []string
	for _, word := range s.Enum {
		if word == "" {
			word = `""`
		}
		out = append(out, "`"+word+"`")
	}
	return strings.Join(out, " ")
}
