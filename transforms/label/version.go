package label

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// version names a verifier by its kind, the version of its rules and its settings.
func version(kind string, rules int, settings any) string {
	raw, err := json.Marshal(settings)
	if err != nil {
		raw = fmt.Appendf(nil, "%#v", settings)
	}
	sum := sha256.Sum256(raw)
	return fmt.Sprintf("%s/%d@%s", kind, rules, hex.EncodeToString(sum[:6]))
}
