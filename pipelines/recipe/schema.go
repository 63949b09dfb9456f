package recipe

import (
	"maps"
	"slices"

	"github.com/millrace/millrace/schemas/setting"
)

// Schema describes recipes, the sections of other modules included. Which kinds of runs there are, package method knows.
func Schema() *setting.Schema {
	s := setting.SchemaOf(Default())
	s.Draft, s.Title = "https://json-schema.org/draft/2020-12/schema", "Millrace recipe"
	for _, key := range slices.Sorted(maps.Keys(sections)) {
		own := setting.SchemaOf(sections[key])
		if d, ok := sections[key].(interface{ About() string }); ok { // one that comes with the program
			own.Description = d.About()
		} else if own.Description == "" {
			own.Description = "settings of another module"
		}
		s.Properties[key] = own
		s.Order = append(s.Order, key)
	}
	return s
}
