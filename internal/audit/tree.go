package audit

import (
	"golang.org/x/mod/sumdb/tlog"
)

// tree computes the hashes of a log that grows, in the memory of its depth: it
// keeps only the roots of the complete subtrees that its size is made of,
// the largest first.
type tree struct {
	size  int64
	roots []tlog.Hash
}

// add puts a record's hash at the end. It returns what is stored with it, in
// tlog's order: the hash itself and those of the subtrees that it completes.
func (t *tree) add(leaf tlog.Hash) (stored []tlog.Hash) {
	stored = append(stored, leaf)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.roots) - 1
		leaf = tlog.NodeHash(t.roots[last], leaf)
		t.roots = t.roots[:last]
		stored = append(stored, leaf)
	}
	t.roots = append(t.roots, leaf)
	t.size++
	return stored
}

// root is the hash of the whole.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return emptyRoot()
	}
	hash := t.roots[len(t.roots)-1]
	for n := len(t.roots) - 2; n >= 0; n-- {
		hash = tlog.NodeHash(t.roots[n], hash)
	}
	return hash
}

// emptyRoot is the hash of a log without entries.
func emptyRoot() tlog.Hash {
	hash, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic(err) // it reads nothing
	}
	return hash
}
