package jinja

// Expressions.
type (
	expr interface{}

	literal  struct{ value any }
	name     struct{ name string }
	listExpr struct {
		items []expr
		tuple bool
	}
	dictExpr struct{ keys, values []expr }
	getAttr  struct {
		of   expr
		name string
	}
	getItem  struct{ of, key expr }
	slice    struct{ of, start, stop, step expr } // bounds may be nil
	callExpr struct {
		of   expr
		args arguments
	}
	filter struct {
		of   expr
		name string
		args arguments
	}
	test struct {
		of   expr
		name string
		args arguments
		not  bool
	}
	unary struct {
		op string
		of expr
	}
	binary struct {
		op          string
		left, right expr
	}
	compare struct { // a < b < c
		first expr
		ops   []string
		rest  []expr
	}
	conditional struct{ cond, then, otherwise expr } // otherwise may be nil

	arguments struct {
		args   []expr
		names  []string
		values []expr
	}
)

// Statements.
type (
	stmt interface{ position() int }

	textStmt struct {
		at
		text string
	}
	outputStmt struct {
		at
		of expr
	}
	ifStmt struct {
		at
		conds     []expr
		bodies    [][]stmt
		otherwise []stmt
	}
	forStmt struct {
		at
		targets         []string
		in, cond        expr // cond may be nil
		body, otherwise []stmt
	}
	setStmt struct {
		at
		targets []string
		attr    string // set name.attr = ...
		value   expr
		body    []stmt // set name %}...{% endset, when value is nil
		filters []filter
	}
	macroStmt struct {
		at
		name     string
		params   []string
		defaults []expr // of the last parameters
		body     []stmt
	}
	filterStmt struct {
		at
		filters []filter
		body    []stmt
	}
	blockStmt struct { // generation: marks what the model writes, and changes nothing
		at
		body []stmt
	}
	loopControl struct {
		at
		stop bool // break, not continue
	}
)

type at int // line

func (a at) position() int { return int(a) }
