package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"

	"github.com/millrace/millrace/transforms/files"
)

// redraw makes the tables and plots of the page from the figures of every ground.
func redraw(docs string) error {
	page := filepath.Join(docs, "results.md")
	raw, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	tables, charts, err := drawn(docs)
	if err != nil {
		return err
	}
	text, err := fill(string(raw), tables)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return errors.Join(plots(docs, charts), files.Write(context.Background(), page, []byte(text), true))
}

// drawn are the tables and plots of every ground.
func drawn(docs string) (map[string]string, map[string]plate, error) {
	tables, charts := map[string]string{}, map[string]plate{}
	for _, name := range groundNames() {
		g := grounds[name]
		f, err := loadFigures(filepath.Join(docs, "results", g.figures))
		if err != nil {
			return nil, nil, err
		}
		if len(f.accepted()) == 0 {
			return nil, nil, fmt.Errorf("results/%s: no seed has figures", g.figures)
		}
		maps.Copy(tables, g.tables(f))
		maps.Copy(charts, g.charts(f))
	}
	return tables, charts, nil
}

// plots writes charts; one without figures is left out.
func plots(docs string, charts map[string]plate) error {
	for name, c := range charts {
		svg, err := c.svg()
		if errors.Is(err, errEmpty) {
			continue
		}
		if err == nil {
			err = files.Write(context.Background(), filepath.Join(docs, "results", name+".svg"), svg, true)
		}
		if err != nil {
			return fmt.Errorf("%s.svg: %w", name, err)
		}
	}
	return nil
}

var marked = regexp.MustCompile(`(?s)<!-- table ([a-z0-9-]+) -->\n.*?<!-- end -->\n`)

// fill puts every table between its markers. A marker without a table is an error, and so is a table without a marker: a
// measured figure must not be lost from the page.
func fill(page string, tables map[string]string) (string, error) {
	var problems []error
	used := map[string]bool{}
	out := marked.ReplaceAllStringFunc(page, func(block string) string {
		name := marked.FindStringSubmatch(block)[1]
		table, ok := tables[name]
		if !ok {
			problems = append(problems, fmt.Errorf("there is no table %q", name))
		}
		used[name] = true
		return fmt.Sprintf("<!-- table %s -->\n%s<!-- end -->\n", name, table)
	})
	for name := range tables {
		if !used[name] {
			problems = append(problems, fmt.Errorf("the page has no marker for table %q", name))
		}
	}
	return out, errors.Join(problems...)
}
