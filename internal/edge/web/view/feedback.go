package view

import (
	"maps"
	"slices"
	"strings"
)

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

type box struct{ x, width int }

// shareBoxes are where the parts of a bar lie on its 1000 units, with a small
// gap after each.
func shareBoxes(drawn, parts []Share) []box {
	total := 0
	for _, p := range parts {
		total += p.Count
	}
	var boxes []box
	at := 0
	for _, p := range drawn {
		width := 0
		if total > 0 {
			width = 1000 * p.Count / total
		}
		boxes = append(boxes, box{at, max(width-4, min(width, 2))})
		at += width
	}
	return boxes
}

func shareClass(n int) string { return string("abcd"[min(n, 3)]) }

func sharesWords(parts []Share) string {
	var words []string
	for _, p := range parts {
		words = append(words, p.Name+" "+Number(p.Count))
	}
	return strings.Join(words, ", ")
}

func sortRows(rows [][]string) {
	slices.SortStableFunc(rows, func(a, b []string) int { return strings.Compare(b[0], a[0]) })
}
