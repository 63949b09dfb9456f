package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// pretrained is where the model that the warm start is made of is linked to, below the directory of the runs, and dataDir the files of
// problems.
const (
	pretrained = "pretrained.gguf"
	dataDir    = "data"
)

// take notes down the pretrained model and the data that the ground goes on from.
func (p *proving) take(model, data string) error {
	for _, x := range []struct {
		flag, given, what string
		needed            bool
		to                *string
	}{
		{"-model", model, "the pretrained model, such as what e2e/smollm2/fetch.sh fetches", p.ground.shared, &p.model},
		{"-data", data, "the directory of gsm8k/ and processbench/", p.ground.data, &p.data},
	} {
		switch {
		case !x.needed && x.given != "":
			return fmt.Errorf("%s: %s does without", x.flag, p.ground.title)
		case x.needed && x.given == "":
			return fmt.Errorf("%s: name %s", x.flag, x.what)
		case x.needed:
			at, err := filepath.Abs(x.given)
			if err != nil {
				return err
			}
			*x.to = at
		}
	}
	return nil
}

// link puts the pretrained model and the data where the runs are, so that what they are given has the same name everywhere.
func (p *proving) link() error {
	for name, to := range map[string]string{pretrained: p.model, dataDir: p.data} {
		if to == "" {
			continue
		}
		at := filepath.Join(p.dir, name)
		aside := fmt.Sprint(at, ".", os.Getpid()) // the name is never missing to another call on the same runs
		if err := os.Symlink(to, aside); err != nil {
			return err
		}
		if err := os.Rename(aside, at); err != nil {
			return errors.Join(err, os.Remove(aside))
		}
	}
	return nil
}
