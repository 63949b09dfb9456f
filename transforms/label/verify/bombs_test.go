package verify

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// bombs are answers meant to hang or exhaust a verifier.
func bombs() map[string][2]string {
	rep := strings.Repeat
	out := map[string][2]string{
		"power tower":         {"5", "$\\boxed{5^{5^{5^{5^5}}}}$"},
		"power tower gold":    {"5^{5^{5^{5^5}}}", "5"},
		"power towers":        {"5^{5^{5^{5^5}}}", "\\boxed{5^{5^{5^{5^{5}}}}+0}"},
		"deep tower":          {"2", "\\boxed{" + rep("2^{", 5000) + "2" + rep("}", 5000) + "}"},
		"plain tower":         {"2", "\\boxed{" + rep("9^", 5000) + "9}"},
		"big exponent":        {"2", "\\boxed{1.0000001^{1000000000}}"},
		"scientific":          {"2", "\\boxed{1e999999999}"},
		"tiny":                {"2", "\\boxed{1e-999999999}"},
		"digits":              {rep("7", 1_000_000), "\\boxed{" + rep("7", 999_999) + "8}"},
		"digits at the limit": {rep("7", 9_000), "\\boxed{" + rep("7", 8_999) + "8}"},
		"decimals":            {"0." + rep("3", 9_000), "\\boxed{1/3}"},
		"parentheses":         {"1", "\\boxed{" + rep("(", 100_000) + "1" + rep(")", 100_000) + "}"},
		"open parentheses":    {"1", "\\boxed{" + rep("(", 9_000)},
		"braces":              {"1", "\\boxed{" + rep("{", 9_000) + "1" + rep("}", 9_000) + "}"},
		"bars":                {"1", "\\boxed{" + rep("|", 9_000) + "1" + rep("|", 9_000) + "}"},
		"factorial":           {"1", "\\boxed{1000000000!}"},
		"factorial tower":     {"1", "\\boxed{((((9!)!)!)!)!}"},
		"factorials":          {"1", "\\boxed{" + rep("1999!*", 2_000) + "1}"},
		"factorial sums":      {"1", "\\boxed{" + rep("1/1999!+", 2_000) + "1}"},
		"binomial":            {"1", "\\boxed{\\binom{1000000000}{500000000}}"},
		"binomials":           {"1", "\\boxed{" + rep("\\binom{4000}{2000}+", 900) + "1}"},
		"huge sum":            {"1", "\\boxed{\\sum_{k=1}^{1000000000} k}"},
		"nested sums":         {"1", "\\boxed{\\sum_{a=1}^{1000} \\sum_{b=1}^{1000} \\sum_{c=1}^{1000} abc}"},
		"prod":                {"1", "\\boxed{\\prod_{k=1}^{2000} k^{k}}"},
		"matrix":              {"1", "\\boxed{\\begin{pmatrix}" + rep(rep("1&", 60)+"1\\\\", 80) + "\\end{pmatrix}}"},
		"matrices": {"\\begin{pmatrix}" + rep(rep("1&", 60)+"1\\\\", 61) + "\\end{pmatrix}",
			"\\boxed{\\begin{pmatrix}" + rep(rep("1&", 60)+"1\\\\", 61) + "\\end{pmatrix}^6}"},
		"matrix of fractions": {"\\begin{pmatrix}" + rep("\\frac{1}{3}\\\\", 600) + "\\end{pmatrix}",
			"\\boxed{\\begin{pmatrix}" + rep("\\frac{x}{3x}\\\\", 600) + "\\end{pmatrix}}"},
		"nested fractions":       {"1", "\\boxed{" + rep("\\frac{1}{1+", 3_000) + "x" + rep("}", 3_000) + "}"},
		"shallow fractions":      {"1", "\\boxed{" + rep("\\frac{1}{1+", 40) + "x" + rep("}", 40) + "}"},
		"symbolic fractions":     {"1", "\\boxed{" + rep("\\frac{a}{b+", 30) + "x" + rep("}", 30) + "}"},
		"flat fractions":         {"1", "\\boxed{" + sumOf(1500, func(i int) string { return fmt.Sprintf("\\frac{1}{%d}", 1009+2*i) }) + "}"},
		"symbol fractions":       {"1", "\\boxed{" + sumOf(200, func(i int) string { return fmt.Sprintf("\\frac{1}{x+%d}", i) }) + "}"},
		"polynomial power":       {"1", "\\boxed{(a+b+c+d+f+g)^{1000000}}"},
		"polynomial powers":      {"(a+b+c+d+f+g)^{40}", "\\boxed{(g+b+c+d+f+a)^{40}}"},
		"nested powers":          {"1", "\\boxed{" + rep("(", 60) + "x+1" + rep(")^2+x)", 0) + rep(")^2", 60) + "}"},
		"surds":                  {"1", "\\boxed{" + sumOf(1500, func(i int) string { return fmt.Sprintf("\\sqrt{%d}", 1009+2*i) }) + "}"},
		"nested surds":           {"1", "\\boxed{" + rep("\\sqrt{2+", 90) + "2" + rep("}", 90) + "}"},
		"products of surds":      {"1", "\\boxed{" + rep("(\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7}+\\sqrt{11}+1)", 300) + "}"},
		"big prime root":         {"1", "\\boxed{\\sqrt{1000000007}\\sqrt{999999937}+\\sqrt{1152921504606846883}}"},
		"sines":                  {"1", "\\boxed{" + rep("\\sin(", 90) + "1" + rep(")", 90) + "}"},
		"sum of sines":           {"1", "\\boxed{" + sumOf(2000, func(i int) string { return fmt.Sprintf("\\sin %d", i) }) + "}"},
		"sine of a giant":        {"1", "\\boxed{\\sin(10^{1000000})}"},
		"exp tower":              {"1", "\\boxed{e^{e^{e^{e^{e^{e^{e}}}}}}}"},
		"exp variables":          {"e^{x+1}e^{y}", "\\boxed{" + rep("e^{x}e^{-x}", 400) + "e^{x+y+1}}"},
		"log of a giant":         {"1", "\\boxed{\\log_2(2^{2^{30}})}"},
		"ten megabytes":          {"1", rep("So we see that x = 1. ", 10<<20/22)},
		"ten megabytes, boxed":   {"1", rep("So we see that x = 1. ", 10<<20/22) + "\\boxed{1}"},
		"ten megabytes of boxes": {"1", rep("\\boxed{1}, ", 10<<20/11)},
		"ten megabytes open":     {"1", "\\boxed{" + rep("1+", 5<<20)},
		"box openings":           {"1", rep("\\boxed{", 1<<20)},
		"boxboxbox":              {"1", rep("box", 3<<20)},
		"thinks":                 {"1", rep("<think>", 1<<20)},
		"answers":                {"1", rep("answer ", 1<<20)},
		"answer is":              {"1", rep("the answer is ", 1<<19)},
		"dollars":                {"1", rep("$", 1<<22)},
		"dollar pairs":           {"1", rep("$ $", 1<<20)},
		"backslash parens":       {"1", rep("\\(", 1<<20) + "\\)"},
		"hashes":                 {"1", rep("#", 1<<22)},
		"digits and spaces":      {"1", rep("1 ", 1<<20)},
		"thousands":              {"1", rep("111 ", 1<<20)},
		"commas":                 {"1", rep("1,", 1<<20)},
		"stars":                  {"1", rep("*", 1<<22)},
		"minus signs":            {"1", "\\boxed{" + rep("-", 9_000) + "1}"},
		"text commands":          {"1", "\\boxed{" + rep("\\text{", 3_000) + "1" + rep("}", 3_000) + "}"},
		"unknown commands":       {"1", "\\boxed{" + rep("\\abcdefghijklmnop", 1_000) + "}"},
		"long command":           {"1", "\\boxed{\\" + rep("a", 9_000) + "}"},
		"plus minus":             {"1", "\\boxed{" + rep("1\\pm ", 3_000) + "1}"},
		"set":                    {numbers(100_000, 1), "\\boxed{\\{" + numbers(100_000, 2) + "\\}}"},
		"set within limits":      {numbers(3_000, 1), "\\boxed{\\{" + numbers(3_000, 2) + "\\}}"},
		"set of surds":           {sumList(900, "\\sqrt{%d}"), "\\boxed{" + sumList(900, "1\\sqrt{%d}") + "}"},
		"set of letters":         {sumList(400, "x_{%d}+1"), "\\boxed{" + sumList(400, "1+y_{%d}") + "}"},
		"union":                  {"(0,1)", "\\boxed{" + rep("(0,1)\\cup", 1_000) + "(0,1)}"},
		"union of points":        {"(0,1)", "\\boxed{" + sumUnion(900) + "}"},
		"chain":                  {"x<1", "\\boxed{" + rep("x<", 3_000) + "1}"},
		"equation":               {"x^2+y^2=1", "\\boxed{(x+y+z+w)^{60}=(x-y)^{60}}"},
		"ratio":                  {"1:2", "\\boxed{" + rep("1:", 3_000) + "2}"},
		"primes":                 {"f''", "\\boxed{f" + rep("'", 9_000) + "}"},
		"recurring":              {"1", "\\boxed{0.\\overline{" + rep("3", 9_000) + "}}"},
		"base":                   {"1_2", "\\boxed{" + rep("1", 9_000) + "_2}"},
		"percents":               {"2", "\\boxed{1" + rep("%", 9_000) + "}"},
		"degrees":                {"2", "\\boxed{1" + rep("°", 4_000) + "}"},
		"exclamations":           {"2", "\\boxed{3" + rep("!", 9_000) + "}"},
		"quotients":              {"2", "\\boxed{1" + rep("/x", 4_000) + "}"},
		"matrix of matrices":     {"1", "\\boxed{" + rep("\\begin{pmatrix}1&", 80) + "1" + rep("\\end{pmatrix}", 80) + "}"},
		"dates":                  {"1", rep("March 5, 2020 ", 1<<19)},
		"zeros":                  {"1", "\\boxed{0^{0^{0^0}}+1/0+\\frac{0}{0}}"},
		"nul bytes":              {"1", rep("\x00", 1<<20)},
		"bad utf-8":              {"1", rep("\xff\xfe", 1<<20)},
		"combining marks":        {"1", "\\boxed{1" + rep("\u0301", 5_000) + "}"},
	}
	return out
}

func sumOf(n int, f func(int) string) string {
	parts := make([]string, 0, n)
	size := 0
	for i := 0; i < n && size < 19_000; i++ {
		parts = append(parts, f(i))
		size += len(parts[i]) + 1
	}
	return strings.Join(parts, "+")
}

func sumList(n int, format string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(format, 2+i*7919%9973)
	}
	return strings.Join(parts, ", ")
}

func sumUnion(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf("[%d,%d]", 2*i, 2*i+1)
	}
	return strings.Join(parts, "\\cup ")
}

func numbers(n, stride int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprint((i*stride + i/(n/stride+1)) % (n + 1))
	}
	return strings.Join(parts, ", ")
}

// TestBombs runs every bomb within its work budget: it returns, its verdict is never correct unless it is, and memory
// stays bounded. Times are shown with VERIFY_TIMES=1 and never asserted.
func TestBombs(t *testing.T) {
	m := NewMath(MathConfig{})
	var worst time.Duration
	for name, pair := range bombs() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		r, err := m.Verify(context.Background(), Gold{pair[0]}, Response{Text: pair[1]})
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Extracted)+len(r.Gold)+len(r.Canonical) > 3000 {
			t.Errorf("%s: result of %d bytes", name, len(r.Extracted)+len(r.Gold)+len(r.Canonical))
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 64 {
			t.Errorf("%s: allocated %d MB", name, mb)
		}
		if os.Getenv("VERIFY_TIMES") != "" { // the least of some runs: what the verdict costs, not what else the machine did
			for range 6 {
				start := time.Now()
				m.Verify(context.Background(), Gold{pair[0]}, Response{Text: pair[1]})
				took = min(took, time.Since(start))
			}
		}
		worst = max(worst, took)
		if os.Getenv("VERIFY_TIMES") != "" && took > 3*time.Millisecond {
			t.Logf("%-24s %-20s %8.2f ms  %d KB %s%s", name, r.Verdict, took.Seconds()*1e3, (after.TotalAlloc-before.TotalAlloc)>>10,
				r.Rule, r.Reason)
		}
	}
	if os.Getenv("VERIFY_TIMES") != "" {
		t.Logf("slowest: %.2f ms", worst.Seconds()*1e3)
	}
}

// TestSameVerdictEverywhere decides every golden case and bomb from many goroutines at once.
func TestSameVerdictEverywhere(t *testing.T) {
	m := NewMath(MathConfig{})
	var pairs [][2]string
	for _, p := range bombs() {
		if len(p[1]) < 1<<16 {
			pairs = append(pairs, p)
		}
	}
	every := 10
	if testing.Short() {
		every = 50
	}
	for i, c := range goldenCases(t) {
		if i%every == 0 {
			pairs = append(pairs, [2]string{c.Gold, c.Response})
		}
	}
	want := make([]Result, len(pairs))
	for i, p := range pairs {
		want[i], _ = m.Verify(context.Background(), Gold{p[0]}, Response{Text: p[1]})
	}
	var wg sync.WaitGroup
	for w := 0; w < 64; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(pairs); i += 16 {
				if got, _ := m.Verify(context.Background(), Gold{pairs[i][0]}, Response{Text: pairs[i][1]}); got != want[i] {
					t.Errorf("%v from one goroutine, %v from many", want[i], got)
				}
			}
		}()
	}
	wg.Wait()
}
