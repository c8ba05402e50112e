package connector

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"iter"
	"strconv"
	"sync"

	v2 "github.com/conductorone/baton-sdk/pb/c1/connector/v2"
	"github.com/conductorone/baton-sdk/pkg/session"
	rs "github.com/conductorone/baton-sdk/pkg/types/resource"
	"github.com/grpc-ecosystem/go-grpc-middleware/logging/zap/ctxzap"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"airlock/airflow"
)

// pages hands out one of Airflow's lists, page by page, to all that need it in
// one sync, whoever comes first: resources, entitlements and grants are made of
// the same pages. A page is read from Airflow once (or twice, where several
// workers need it at the same moment); what later phases need of it, K, is kept
// in the sync's session. The session may forget: then the page is read again.
type pages[T, K any] struct {
	name string
	read func(context.Context, airflow.Cursor) (airflow.Page[T], error)
	keep func(T) K
	// atOnce is how many items an answer to the SDK should have, where Airflow
	// gives fewer a page: each answer costs some calls between processes.
	atOnce int

	// first is the latest sync's first page, whole: the instance needs its total,
	// and the list itself its items.
	mu        sync.Mutex
	firstSync string
	first     *airflow.Page[T]
}

// kept is a page as the session holds it.
type kept[K any] struct {
	Items []K             `json:"items"`
	Total int             `json:"total"`
	Next  *airflow.Cursor `json:"next,omitempty"`
}

// whole reads a page with all that Airflow tells.
func (p *pages[T, K]) whole(ctx context.Context, opts rs.SyncOpAttrs, cur airflow.Cursor) (airflow.Page[T], error) {
	if cur.Page > 0 {
		return p.fetch(ctx, opts, cur)
	}
	// The lock is held while reading: who comes meanwhile wants the same page.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first != nil && p.firstSync == opts.SyncID && opts.SyncID != "" {
		return *p.first, nil
	}
	page, err := p.fetch(ctx, opts, cur)
	if err != nil {
		return airflow.Page[T]{}, err
	}
	p.first, p.firstSync = &page, opts.SyncID
	return page, nil
}

// fetch reads a page from Airflow, or as many as make an answer, and leaves in
// the session what is kept of it.
func (p *pages[T, K]) fetch(ctx context.Context, opts rs.SyncOpAttrs, cur airflow.Cursor) (airflow.Page[T], error) {
	page, err := p.read(ctx, cur)
	for err == nil && page.Next != nil && len(page.Items) < p.atOnce {
		var more airflow.Page[T]
		more, err = p.read(ctx, *page.Next)
		page = airflow.Page[T]{Items: append(page.Items, more.Items...), Total: more.Total, Next: more.Next}
	}
	if err != nil {
		return airflow.Page[T]{}, err
	}
	if err := session.SetJSON(ctx, opts.Session, p.key(cur), p.kept(page)); err != nil {
		// Not an error: the page is then read again.
		ctxzap.Extract(ctx).Debug("the session doesn't keep a page", zap.String("list", p.name), zap.Int("page", cur.Page), zap.Error(err))
	}
	return page, nil
}

// brief reads what is kept of a page, from the session or else from Airflow.
func (p *pages[T, K]) brief(ctx context.Context, opts rs.SyncOpAttrs, cur airflow.Cursor) (kept[K], error) {
	if k, found, err := session.GetJSON[kept[K]](ctx, opts.Session, p.key(cur)); err == nil && found {
		return k, nil
	}
	page, err := p.whole(ctx, opts, cur)
	if err != nil {
		return kept[K]{}, err
	}
	return p.kept(page), nil
}

// key names a page by all that says where it begins, and not by its number: where
// the list has moved and a page is read again, those that followed what it was
// before aren't those that follow it now.
func (p *pages[T, K]) key(cur airflow.Cursor) string { return p.name + "/" + digest(cur) }

func (p *pages[T, K]) kept(page airflow.Page[T]) kept[K] {
	k := kept[K]{Items: make([]K, len(page.Items)), Total: page.Total, Next: page.Next}
	for i, item := range page.Items {
		k.Items[i] = p.keep(item)
	}
	return k
}

// digest tells one value from another.
func digest(v any) string {
	h := fnv.New64a()
	if err := json.NewEncoder(h).Encode(v); err != nil {
		panic(err) // strings, numbers and maps of them
	}
	return strconv.FormatUint(h.Sum64(), 36)
}

// grantsAtOnce is how many grants one answer holds at most: a role's permissions
// may be thousands, and an answer has to stay below 4 MiB.
const grantsAtOnce = 2000

// grantsOf makes grants of what a page holds, from pos on, as many as go into one
// answer. The position after them is nil at the end of the list.
func grantsOf[K, I any](page kept[K], pos position, items iter.Seq[I], grant func(I) *v2.Grant) ([]*v2.Grant, *position) {
	if pos.Done > 0 && pos.Mark != digest(page.Items) {
		pos.Done = 0 // it was forgotten and read again, and isn't what it was: once more from its start
	}
	var out []*v2.Grant
	n := 0
	for item := range items {
		if n++; n <= pos.Done {
			continue
		}
		if g := grant(item); g != nil {
			out = append(out, g)
		}
		if len(out) == grantsAtOnce {
			return out, &position{Part: pos.Part, Cursor: pos.Cursor, Done: n, Mark: digest(page.Items)}
		}
	}
	return out, pos.after(page.Next)
}

// position is where a listing of the SDK's stands: its page token.
type position struct {
	// Part is which list is being walked, for those made of two.
	Part int `json:"part,omitempty"`
	// Cursor is the page of it.
	Cursor airflow.Cursor `json:"cursor"`
	// Done is how much of what that page gives was handed out, Mark the digest of it.
	Done int    `json:"done,omitempty"`
	Mark string `json:"mark,omitempty"`
}

func parsePosition(opts rs.SyncOpAttrs) (position, error) {
	var pos position
	if opts.PageToken.Token == "" {
		return pos, nil
	}
	if err := json.Unmarshal([]byte(opts.PageToken.Token), &pos); err != nil {
		return pos, status.Errorf(codes.InvalidArgument, "baton-airflow: the page token isn't one of this connector's: %v", err)
	}
	return pos, nil
}

// nextPage is the answer that asks to be called again at next, or not any more.
func nextPage(next *position) *rs.SyncOpResults {
	if next == nil {
		return &rs.SyncOpResults{}
	}
	token, err := json.Marshal(next)
	if err != nil {
		panic(err) // strings and numbers
	}
	return &rs.SyncOpResults{NextPageToken: string(token)}
}

// after is the position on the next page of the same part, nil after the last.
func (pos position) after(next *airflow.Cursor) *position {
	if next == nil {
		return nil
	}
	return &position{Part: pos.Part, Cursor: *next}
}
