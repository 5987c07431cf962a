"""Tables, figures and the report: everything here reads the files of earlier stages and nothing else.

- `tables.write_table` turns the records of a table's rows into CSV, Markdown and LaTeX, the published beside ours.
- `figures.write_examples` shows one image under several attacks.
- `page.write_report` puts a study on one self-contained HTML page.
"""
