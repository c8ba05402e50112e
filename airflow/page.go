package airflow

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"strconv"
)

// pageSize is how many items are asked for at once: Airflow's own default
// maximum ([api] maximum_page_limit). It clamps a larger wish silently, so what
// comes back is counted, never assumed.
const pageSize = 100

// maxSteps bounds how often one page is looked for, and maxSetbacks how often a
// list may throw its reading back, before it is given up.
const (
	maxSteps    = 20
	maxSetbacks = 20
)

// Cursor says where in a list to go on. The zero Cursor is the list's start.
// It can be stored as JSON.
type Cursor struct {
	// Page counts the pages handed out before.
	Page int `json:"page"`
	// Offset is the position after the last item that was read.
	Offset int `json:"offset"`
	// Known are the keys of what was read last, in order. The next page must begin
	// with one of them: where it doesn't, the list has moved.
	Known []string `json:"known,omitempty"`
	// Count is how many items were handed out, Left how many were then still to
	// come, and Setbacks how often a page made these no fewer.
	Count    int `json:"count"`
	Left     int `json:"left"`
	Setbacks int `json:"setbacks,omitempty"`
}

// Page is a part of a list, in the list's own order, without what the page
// before it already held.
type Page[T any] struct {
	Items []T
	// Total is how many items the whole list has, by Airflow's own count.
	Total int
	// Next is where to go on; nil after the last page.
	Next *Cursor
}

// list is a kind of list that Airflow keeps. Its order must be one in which
// items never change places among each other.
type list[T any] struct {
	call  call
	order string
	// key is an item's identity.
	key func(T) string
	// fetch reads the answer to one request.
	fetch func(ctx context.Context, c *Client, call call) (items []T, total int, err error)
}

// page reads the page at cur. Each item that stood in the list all the while is
// handed out: those before the page were read before, and the page has no gaps.
// And if in the end fewer came than Airflow counts, reading begins anew.
func (l list[T]) page(ctx context.Context, c *Client, cur Cursor) (Page[T], error) {
	known := make(map[string]bool, len(cur.Known))
	for _, k := range cur.Known {
		known[k] = true
	}
	items, end, total, err := l.find(ctx, c, cur, known)
	if err != nil {
		return Page[T]{}, err
	}
	p := Page[T]{Items: l.fresh(items, known), Total: total}
	next := Cursor{Page: cur.Page + 1, Offset: end, Count: cur.Count + len(p.Items), Left: max(0, total-end), Setbacks: cur.Setbacks}
	for _, item := range items {
		next.Known = append(next.Known, l.key(item))
	}
	if cur.Page > 0 && next.Left >= cur.Left {
		next.Setbacks++
	}
	if next.Left == 0 {
		if next.Count >= total {
			return p, nil
		}
		next = Cursor{Page: next.Page, Setbacks: next.Setbacks}
	}
	if next.Setbacks > maxSetbacks {
		return Page[T]{}, l.moved(cur)
	}
	p.Next = &next
	return p, nil
}

// find reads what follows the known items. It begins with the last of them: if
// that isn't there, items before it were deleted or inserted, and it looks
// further back, until it begins with an item that was read before, or at the
// start of the list. It returns the position after the last item.
func (l list[T]) find(ctx context.Context, c *Client, cur Cursor, known map[string]bool) (items []T, end, total int, err error) {
	offset, back := max(0, cur.Offset-1), max(1, len(known)-1)
	for range maxSteps {
		if items, total, err = l.read(ctx, c, offset); err != nil {
			return nil, 0, 0, err
		}
		end = offset + len(items)
		switch {
		case offset > 0 && !l.joins(items, known):
			offset, back = max(0, offset-back), 2*back
		case end < total && len(l.fresh(items, known)) == 0:
			offset = max(offset, end-1) // where those should be that are missing
		default:
			return items, end, total, nil
		}
	}
	if len(items) == 1 && len(known) == 1 {
		return nil, 0, 0, &Error{Kind: Precondition, Op: l.call.op, Hint: "airflow gives one item at a time, too few to notice a list that moves: raise [api] maximum_page_limit"}
	}
	return nil, 0, 0, l.moved(cur)
}

// joins reports whether the items begin with one that is known.
func (l list[T]) joins(items []T, known map[string]bool) bool {
	return len(items) > 0 && known[l.key(items[0])]
}

func (l list[T]) moved(cur Cursor) error {
	return &Error{Kind: Moved, Op: l.call.op, Hint: fmt.Sprintf(
		"the list kept changing while it was read (at about item %d), or airflow counts more than it gives: no shorter list was made of it, read it again from the start", cur.Offset)}
}

// read asks for one page.
func (l list[T]) read(ctx context.Context, c *Client, offset int) (items []T, total int, err error) {
	call := l.call
	call.query = url.Values{"limit": {strconv.Itoa(pageSize)}, "offset": {strconv.Itoa(offset)}}
	if l.order != "" {
		call.query.Set("order_by", l.order)
	}
	maps.Copy(call.query, l.call.query)
	return l.fetch(ctx, c, call)
}

// fresh are the items that aren't known, each one once.
func (l list[T]) fresh(items []T, known map[string]bool) []T {
	seen := make(map[string]bool, len(items))
	fresh := make([]T, 0, len(items))
	for _, item := range items {
		if k := l.key(item); !known[k] && !seen[k] {
			seen[k] = true
			fresh = append(fresh, item)
		}
	}
	return fresh
}

// all yields every item once, over all pages.
func (l list[T]) all(ctx context.Context, c *Client) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		seen := map[string]bool{}
		for cur := new(Cursor); cur != nil; {
			p, err := l.page(ctx, c, *cur)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range l.fresh(p.Items, seen) {
				seen[l.key(item)] = true
				if !yield(item, nil) {
					return
				}
			}
			cur = p.Next
		}
	}
}
