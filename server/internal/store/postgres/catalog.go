package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// catalogSQL lists the relations outside of PostgreSQL's own schemas, with what
// the role of the connection may read of them. Types are resolved through
// domains. An index counts if an equality on its first column can use it.
const catalogSQL = `
SELECT n.nspname, c.relname, c.relkind::text, pg_table_is_visible(c.oid),
       has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT'),
       a.names, a.types, a.basetypes, a.categories,
       i.names, i.columns, i.uniques,
       f.columns, f.schemas, f.tables, f.refcolumns
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names,
         array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS types,
         array_agg(CASE WHEN b.oid IS NULL THEN format_type(a.atttypid, -1) ELSE format_type(b.oid, -1) END ORDER BY a.attnum) AS basetypes,
         array_agg(COALESCE(b.typcategory, t.typcategory)::text ORDER BY a.attnum) AS categories
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND has_column_privilege(c.oid, a.attnum, 'SELECT')
) a ON true
LEFT JOIN LATERAL (
  SELECT array_agg(x.relname::text ORDER BY x.relname) AS names,
         array_agg(k.attname::text ORDER BY x.relname) AS columns,
         array_agg(i.indisunique AND i.indnkeyatts = 1 ORDER BY x.relname) AS uniques
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_am m ON m.oid = x.relam
  JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = i.indkey[0]
  WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND m.amname IN ('btree', 'hash')
) i ON true
LEFT JOIN LATERAL (
  SELECT array_agg(k.attname::text ORDER BY f.conname) AS columns,
         array_agg(rn.nspname::text ORDER BY f.conname) AS schemas,
         array_agg(r.relname::text ORDER BY f.conname) AS tables,
         array_agg(rk.attname::text ORDER BY f.conname) AS refcolumns
  FROM pg_constraint f
  JOIN pg_class r ON r.oid = f.confrelid
  JOIN pg_namespace rn ON rn.oid = r.relnamespace
  JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = f.conkey[1]
  JOIN pg_attribute rk ON rk.attrelid = f.confrelid AND rk.attnum = f.confkey[1]
  WHERE f.conrelid = c.oid AND f.contype = 'f' AND cardinality(f.conkey) = 1 AND f.conparentid = 0
) f ON true
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY n.nspname, c.relname`

// relationKinds names the relations whose indexes cannot be checked.
var relationKinds = map[string]string{"v": "view", "m": "materialized view", "f": "foreign table"}

// catalog is the database's catalog, and what the statements need to know
// about its types: the type without its length and below its domains.
type catalog struct {
	schema.Catalog
	baseTypes map[columnKey]columnType
}

type columnKey struct{ schema, table, column string }

type columnType struct {
	name     string // as format_type has it
	category string // pg_type.typcategory
}

func (c *catalog) typeOf(t schema.MappedTable, column string) columnType {
	return c.baseTypes[columnKey{t.Schema, t.Name, column}]
}

// readCatalog reads the catalog in one statement.
func readCatalog(ctx context.Context, conn *pgx.Conn) (*catalog, error) {
	rows, err := conn.Query(ctx, catalogSQL)
	if err != nil {
		return nil, err
	}
	c := &catalog{
		Catalog:   schema.Catalog{CreateIndex: "CREATE UNIQUE INDEX CONCURRENTLY"},
		baseTypes: make(map[columnKey]columnType),
	}
	var (
		t                                       schema.Table
		kind                                    string
		columns, types, bases, categories       []string
		indexes, indexColumns                   []string
		uniques                                 []bool
		keys, refSchemas, refTables, refColumns []string
	)
	targets := []any{
		&t.Schema, &t.Name, &kind, &t.Visible, &t.Readable,
		&columns, &types, &bases, &categories,
		&indexes, &indexColumns, &uniques,
		&keys, &refSchemas, &refTables, &refColumns,
	}
	_, err = pgx.ForEachRow(rows, targets, func() error {
		t := t
		t.Kind = relationKinds[kind]
		for i, name := range columns {
			typ := columnType{bases[i], categories[i]}
			c.baseTypes[columnKey{t.Schema, t.Name, name}] = typ
			t.Columns = append(t.Columns, schema.Column{Name: name, Type: types[i], Holds: typ.holds()})
		}
		for i, name := range indexes {
			t.Indexes = append(t.Indexes, schema.Index{Name: name, Column: indexColumns[i], Unique: uniques[i]})
		}
		for i, column := range keys {
			t.ForeignKeys = append(t.ForeignKeys, schema.ForeignKey{
				Column: column, RefSchema: refSchemas[i], RefTable: refTables[i], RefColumn: refColumns[i],
			})
		}
		c.Tables = append(c.Tables, t)
		return nil
	})
	return c, err
}

// holds says what a column of the type can be read as.
func (t columnType) holds() schema.Holds {
	switch {
	case t.isTime():
		return schema.HoldsTime
	case t.name == "boolean":
		return schema.HoldsBool
	case t.isText():
		return schema.HoldsText | schema.HoldsToken
	case t.isInt(), t.name == "numeric", t.name == "uuid", t.category == "I", t.category == "E":
		return schema.HoldsText // I: addresses, E: enums
	}
	return 0
}

func (t columnType) isTime() bool {
	return slices.Contains([]string{"timestamp with time zone", "timestamp without time zone", "date"}, t.name)
}

// isText also holds for citext, which is of the same category.
func (t columnType) isText() bool { return t.category == "S" && t.name != "name" && t.name != `"char"` }

func (t columnType) isInt() bool {
	return slices.Contains([]string{"smallint", "integer", "bigint"}, t.name)
}
