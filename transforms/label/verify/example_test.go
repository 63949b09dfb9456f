package verify_test

import (
	"context"
	"fmt"
	"log"

	"github.com/millrace/millrace/transforms/label/verify"
)

// A verifier is made by name and asked whether a response gives the reference answer; the result says what was compared.
func Example() {
	math, err := verify.New("math", nil)
	if err != nil {
		log.Fatal(err)
	}
	gold := verify.Gold{Answer: `\frac{1}{2}`}
	for _, response := range []verify.Response{
		{Text: `So the probability is \boxed{0.5}.`},
		{Text: "The answer is 1/3."},
		{Text: "I do not know."},
		{Text: "Let us count the ways:", Truncated: true},
	} {
		result, err := math.Verify(context.Background(), gold, response)
		if err != nil {
			log.Fatal(err) // the world's fault, never the response's
		}
		outcome, known := result.Verdict.Outcome(verify.Abstains{Truncated: true})
		fmt.Println(result.Verdict, result.Extracted, "- outcome", outcome, known)
	}
	// Output:
	// correct 0.5 - outcome 1 true
	// incorrect 1/3 - outcome 0 true
	// unparsable_response  - outcome 0 true
	// truncated  - outcome 0 false
}

// A configuration is JSON, as in a recipe; a key that the verifier does not have is an error.
func ExampleNew() {
	tolerance, err := verify.New("tolerance", []byte(`{"relative": 0.01}`))
	if err != nil {
		log.Fatal(err)
	}
	result, err := tolerance.Verify(context.Background(), verify.Gold{Answer: "3.14159"}, verify.Response{Text: "It is 3.15"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Verdict, result.Rule)
	_, err = verify.New("tolerance", []byte(`{"relativ": 0.01}`))
	fmt.Println(err)
	// Output:
	// correct tolerance
	// relativ: unknown key; did you mean "relative"?
}
