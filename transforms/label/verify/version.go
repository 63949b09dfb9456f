package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// version is the name of a verifier's rules, with a digest of its configuration where that differs from the default.
func version(rules string, def, cfg any) string {
	d, err1 := json.Marshal(def)
	c, err2 := json.Marshal(cfg)
	if err1 != nil || err2 != nil || string(d) == string(c) {
		return rules
	}
	sum := sha256.Sum256(c)
	return rules + "+" + hex.EncodeToString(sum[:4])
}
