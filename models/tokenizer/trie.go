package tokenizer

// maxWord bounds the length in bytes of a token that is searched for in a text, and with it the time of the search.
const maxWord = 1024

// maxWords bounds the bytes of all such tokens together, and with it the memory of a trie.
const maxWords = 1 << 20

// trie finds the longest of a set of words at the start of a text.
type trie struct {
	first [256]bool // the bytes that words begin with
	nodes []trieNode
	bytes int // of the words, held below maxWords
}

type trieNode struct {
	next map[byte]int32
	id   int32
	word bool
}

func (t *trie) add(word string, id int32) {
	t.bytes += len(word)
	if len(t.nodes) == 0 {
		t.nodes = append(t.nodes, trieNode{})
	}
	t.first[word[0]] = true
	at := int32(0)
	for i := range len(word) {
		child, ok := t.nodes[at].next[word[i]]
		if !ok {
			child = int32(len(t.nodes))
			if t.nodes[at].next == nil {
				t.nodes[at].next = map[byte]int32{}
			}
			t.nodes[at].next[word[i]] = child
			t.nodes = append(t.nodes, trieNode{})
		}
		at = child
	}
	t.nodes[at].id, t.nodes[at].word = id, true
}

// longest returns the longest word that text begins with, n = 0 when there is none.
func (t *trie) longest(text string) (id int32, n int) {
	if text == "" || !t.first[text[0]] {
		return 0, 0
	}
	at := int32(0)
	for i := range len(text) {
		child, ok := t.nodes[at].next[text[i]]
		if !ok {
			break
		}
		at = child
		if t.nodes[at].word {
			id, n = t.nodes[at].id, i+1
		}
	}
	return id, n
}
