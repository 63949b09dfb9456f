// Command verify reads cases of the mathematical verifier as JSON lines with "gold" and "response" on standard input and
// writes one result a line. With -rounds it measures instead: the whole input that many times, seconds on standard output.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/millrace/millrace/transforms/label/verify"
)

type pair struct {
	Gold      string `json:"gold"`
	Response  string `json:"response"`
	Truncated bool   `json:"truncated"`
}

func main() {
	rounds := flag.Int("rounds", 0, "measure: pass over the input this often and print seconds for all of it")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "goroutines")
	flag.Parse()
	var pairs []pair
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var p pair
		if err := json.Unmarshal(in.Bytes(), &p); err != nil {
			log.Fatalf("line %d: %v", len(pairs)+1, err)
		}
		pairs = append(pairs, p)
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
	v, err := verify.New("math", nil)
	if err != nil {
		log.Fatal(err)
	}
	results := make([]verify.Result, len(pairs))
	pass := func() {
		var wg sync.WaitGroup
		for w := 0; w < *workers; w++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := w; i < len(pairs); i += *workers {
					p := pairs[i]
					results[i], _ = v.Verify(context.Background(), verify.Gold{Answer: p.Gold}, verify.Response{Text: p.Response, Truncated: p.Truncated})
				}
			}()
		}
		wg.Wait()
	}
	if *rounds > 0 {
		start := time.Now()
		for i := 0; i < *rounds; i++ {
			pass()
		}
		fmt.Println(time.Since(start).Seconds())
		return
	}
	pass()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, r := range results {
		out.Write(r.JSON())
		out.WriteByte('\n')
	}
}
