package e2e

import (
	"go/ast"
	"go/types"
	"testing"

	"golang.org/x/tools/go/packages"
)

// A nil pointer in an interface is not nil, so that whoever asks `if m != nil` uses it: nothing may hand on the results of a
// call that gives a pointer and an error where an interface is declared.
func TestNoNilPointerAsInterface(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the types of the whole module")
	}
	all, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax, Dir: ".."}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, e := range p.Errors {
			t.Fatal(e)
		}
		for _, f := range p.Syntax {
			handsOn(p, f, nil, func(n ast.Node, from, to types.Type) {
				t.Errorf("%s: a %v is handed on as a %v; a nil one would not be nil: return it after looking at the error",
					p.Fset.Position(n.Pos()), from, to)
			})
		}
	}
}

// handsOn reports the returns of a tuple below a node in which a pointer, map, slice or function becomes an interface. The
// results are those of the function around it.
func handsOn(p *packages.Package, below ast.Node, results *types.Tuple, report func(n ast.Node, from, to types.Type)) {
	ast.Inspect(below, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Body != nil {
				handsOn(p, n.Body, p.TypesInfo.Defs[n.Name].Type().(*types.Signature).Results(), report)
			}
			return false
		case *ast.FuncLit:
			handsOn(p, n.Body, p.TypesInfo.TypeOf(n).(*types.Signature).Results(), report)
			return false
		case *ast.ReturnStmt:
			if len(n.Results) != 1 {
				return true
			}
			given, ok := p.TypesInfo.TypeOf(n.Results[0]).(*types.Tuple)
			for i := 0; ok && i < given.Len(); i++ {
				from, to := given.At(i).Type(), results.At(i).Type()
				if canBeNil(from) && types.IsInterface(to) {
					report(n, from, to)
				}
			}
		}
		return true
	})
}

func canBeNil(t types.Type) bool {
	switch t.Underlying().(type) {
	case *types.Pointer, *types.Map, *types.Slice, *types.Signature:
		return true
	}
	return false
}
