package postgres

import "testing"

// TestPlanNode: an index that is read whole leads to nothing, though it is used.
func TestPlanNode(t *testing.T) {
	join := func(scan planNode) planNode {
		return planNode{Type: "Nested Loop", Plans: []planNode{scan, {Type: "Index Scan", Alias: "u", Index: "user_pkey", Cond: "(id = s.user_id)"}}}
	}
	for _, tt := range []struct {
		name string
		scan planNode
		want string
	}{
		{"by an index", planNode{Type: "Index Scan", Alias: "s", Index: "t", Cond: "(token = $1)"}, "t"},
		{"by a bitmap of one", planNode{Type: "Bitmap Heap Scan", Alias: "s", Plans: []planNode{{Type: "Bitmap Index Scan", Index: "t", Cond: "(token = $1)"}}}, "t"},
		{"the whole of another index", planNode{Type: "Index Scan", Alias: "s", Index: "session_pkey"}, ""},
		{"the whole table", planNode{Type: "Seq Scan", Alias: "s"}, ""},
	} {
		scan, ok := join(tt.scan).scanOf("s")
		if got := scan.condition(); !ok || got != tt.want {
			t.Errorf("%s: found %t, index %q, want %q", tt.name, ok, got, tt.want)
		}
	}
	if _, ok := join(planNode{Alias: "x"}).scanOf("s"); ok {
		t.Error("a plan without the session table has a way to it")
	}
}
