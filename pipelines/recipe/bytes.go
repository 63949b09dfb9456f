package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
)

// Bytes is an amount of memory. A recipe gives it as a number of bytes or as text with a unit, such as 12GiB or 500 MB.
type Bytes int64

var byteUnits = []struct {
	name string
	size float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}

// DecodeSetting implements setting.Decoder.
func (b *Bytes) DecodeSetting(tree any, path string) error {
	text := fmt.Sprint(tree)
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if n *= u.size; err != nil || !(n >= 0 && n < math.MaxInt64) {
			break
		}
		*b = Bytes(n)
		return nil
	}
	return setting.Errorf(path, "%q is not an amount of memory; give a number of bytes, or one with a unit, such as 12GiB", text)
}

// SettingSchema describes both forms.
func (*Bytes) SettingSchema() *setting.Schema {
	return &setting.Schema{Type: "string", Default: "0", Range: "bytes, or with a unit: 12GiB"}
}

// String writes the amount in the unit that suits it.
func (b Bytes) String() string {
	x, unit := float64(b), "B"
	for _, u := range byteUnits[:4] {
		if float64(b) >= u.size {
			x, unit = float64(b)/u.size, u.name
		}
	}
	return fmt.Sprintf("%.3g %s", x, unit)
}
