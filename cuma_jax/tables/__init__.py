"""One reader of other people's tables: csv, tsv, jsonl, parquet and arrow, packed or not; each fault with its line."""
