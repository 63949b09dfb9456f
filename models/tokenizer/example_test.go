package tokenizer_test

import (
	"fmt"
	"log"

	"github.com/millrace/millrace/models/tokenizer"
)

// Text becomes ids and ids text; of ids that come one after the other a Stream gives whole characters as they are complete.
func Example() {
	t, err := tokenizer.NewBytes() // Load reads the one of a model's directory or GGUF file
	if err != nil {
		log.Fatal(err)
	}
	ids, err := t.Encode("naïve<eos>")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ids)
	fmt.Println(t.Decode(ids), t.Special(ids[len(ids)-1]), t.EOS())

	s := tokenizer.NewStream(t)
	for _, id := range ids[:6] {
		fmt.Printf("%q ", s.Next(id))
	}
	fmt.Printf("%q\n", s.Flush())
	// Output:
	// [110 97 195 175 118 101 258]
	// naïve<eos> true [258]
	// "n" "a" "" "ï" "v" "e" ""
}

// A conversation is written as the model's own template has it.
func ExampleNewChat() {
	t, err := tokenizer.NewBytes()
	if err != nil {
		log.Fatal(err)
	}
	chat, err := tokenizer.NewChat(t)
	if err != nil {
		log.Fatal(err)
	}
	messages := []tokenizer.Message{{Role: "user", Content: "What is 2+3?"}}
	text, err := chat.Render(messages, true, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	ids, err := chat.Encode(messages, true, nil)
	fmt.Println(len(ids), "tokens", err)
	// Output:
	// <bos>user
	// What is 2+3?<eos><bos>assistant
	//
	// 30 tokens <nil>
}
