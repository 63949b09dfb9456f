package command

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestCommandPages(t *testing.T) {
	pages := map[string]string{}
	var index pageText
	fmt.Fprintf(&index, "# Commands\n\nWritten from the program (`%s`), as `millrace COMMAND --help`\nprints it. "+
		"`millrace completion bash` (zsh, fish, powershell) prints completions, `millrace --version` the version.\n\n"+
		"| command | |\n|---|---|\n", writePages)
	root := newRoot(&env{out: io.Discard, err: io.Discard})
	for _, c := range root.Commands() {
		if c.Example == "" {
			t.Errorf("%s has no example", c.Name())
		}
		fmt.Fprintf(&index, "| [`%s`](%s.md) | %s |\n", c.Name(), c.Name(), mdText(c.Short))
		pages["commands/"+c.Name()+".md"] = commandPage(c)
	}
	index.WriteString("\nEvery command takes `--json`: its result, and nothing else, is then on standard output. Progress and notes are on " +
		"standard error.\n\n## Exit codes\n\n")
	exitTable(&index, deadAnywhere)
	pages["commands/README.md"] = index.text()
	holdPages(t, pages, "commands")
}

// moreOn are the pages that say more of what a command does.
var moreOn = map[string][]string{
	"diff": {"runs"}, "doctor": {"doctor"}, "du": {"runs"}, "eval": {"evaluation"}, "export": {"export"}, "filter": {"jobs"},
	"fork":  {"runs"},
	"label": {"jobs", "verifier"},
	"ls":    {"runs"}, "plan": {"recipes/README", "settings"}, "probe": {"models"}, "quickstart": {"proving-ground"},
	"recipes": {"recipes/README"}, "refresh": {"evaluation", "papers"}, "relabel": {"verifier"}, "report": {"runs"}, "retry": {"reliability"},
	"rm": {"runs"}, "rollout": {"jobs", "sampling"}, "run": {"recipes/README", "runs"}, "score": {"jobs"}, "serve": {"models"},
	"show": {"columns"}, "steps": {"jobs"}, "track": {"trackers"}, "verify": {"verifier"}, "watch": {"runs"}, "worker": {"flink"},
}

// commandPage is the page of a command.
func commandPage(c *cobra.Command) string {
	var p pageText
	fmt.Fprintf(&p, "# millrace %s\n\n%s.\n\n%s\n```\n%s\n```\n\n", c.Name(), mdText(c.Short), notRun("usage"), c.UseLine())
	if c.Long != "" {
		p.WriteString(mdText(c.Long) + "\n\n")
	}
	if pages := moreOn[c.Name()]; pages != nil {
		links := make([]string, len(pages))
		for i, page := range pages {
			links[i] = fmt.Sprintf("[%s](../%s.md)", strings.TrimSuffix(page, "/README"), page)
		}
		fmt.Fprintf(&p, "More: %s.\n\n", strings.Join(links, ", "))
	}
	p.WriteString("## Examples\n\n" + notRun("examples") + "\n```\n")
	for line := range strings.Lines(c.Example) {
		p.WriteString(strings.TrimSpace(line) + "\n")
	}
	p.WriteString("```\n\n## Flags\n\n| flag | default | meaning |\n|---|---|---|\n")
	flags := func(f *pflag.Flag) {
		kind, meaning := pflag.UnquoteUsage(f)
		name := "`--" + f.Name + "`"
		if kind = strings.TrimSuffix(strings.TrimSuffix(kind, "Array"), "s"); kind != "" {
			name += " " + kind
		}
		value := "–"
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&p, "| %s | %s | %s |\n", name, value, mdText(meaning))
	}
	c.NonInheritedFlags().VisitAll(flags)
	c.InheritedFlags().VisitAll(flags)
	p.WriteString("\n## Exit codes\n\n")
	exitTable(&p, c.Annotations[whenDead])
	return p.text()
}

// exitTable writes what exit codes mean; without dead, exitDead is none of them.
func exitTable(p *pageText, dead string) {
	p.WriteString("| code | |\n|---|---|\n")
	for _, e := range exits {
		meaning := e.meaning
		if e.code == exitDead {
			meaning = dead
		}
		if meaning != "" {
			fmt.Fprintf(p, "| %d | %s |\n", e.code, meaning)
		}
	}
}
