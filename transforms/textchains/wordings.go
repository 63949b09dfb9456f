package textchains

import (
	"strconv"
	"strings"
)

// Wording is a way to tell a chain. In its sentences # stands for a number, NAME for who and THING for what.
type Wording struct {
	Start    string
	Ops      [3]string // of the Operations, in their order; empty: the chain is written as a sum
	Question string

	Names, Things []string
}

const (
	numberMark = "#"
	nameMark   = "NAME"
	thingMark  = "THING"
)

var (
	people = []string{"Ann", "Ben", "Eva", "Ida", "Leo", "Max", "Mia", "Tom"}
	things = []string{"books", "cards", "coins", "cups", "eggs", "nuts", "pens", "shells"}
)

// Wordings are all there are. The last is told in no training split.
var Wordings = []Wording{
	{},
	{Start: "Start at #.", Ops: [3]string{" Add #.", " Take away #.", " Multiply by #."}, Question: " What do you get?"},
	{Start: "NAME has # THING.", Ops: [3]string{" Then gets # more.", " Then loses #.", " Then has # times as many."},
		Question: " How many THING?", Names: people, Things: things},
	{Start: "A box holds # THING.", Ops: [3]string{" # go in.", " # come out.", " They become # times as many."},
		Question: " How many THING now?", Things: things},
	{Start: "A bus carries # people.", Ops: [3]string{" # get on.", " # get off.", " The next bus carries # times as many."},
		Question: " How many people ride?"},
}

// heldOutWording is the one that training does not see.
var heldOutWording = len(Wordings) - 1

// bare reports whether the chain is written as a sum.
func (w Wording) bare() bool { return w.Start == "" }

// fill puts in who and what.
func (w Wording) fill(pattern string, c Chain) string {
	if len(w.Names) > 0 {
		pattern = strings.ReplaceAll(pattern, nameMark, w.Names[c.Name])
	}
	if len(w.Things) > 0 {
		pattern = strings.ReplaceAll(pattern, thingMark, w.Things[c.Thing])
	}
	return pattern
}

// tell puts in the number too.
func (w Wording) tell(pattern string, c Chain, number int) string {
	return strings.ReplaceAll(w.fill(pattern, c), numberMark, strconv.Itoa(number))
}
