# One table, its sub-tables (table_jma_10: jma_10a, jma_10b, ...) or one figure, asked for by its name; it plans the
# jobs that this one needs and no others.

for name in STUDY.tables:

    rule:
        name:
            f"table_{name}"
        input:
            expand("{results}/tables/{name}.{kind}", results=RESULTS, name=name, kind=FORMATS["tables"]),
        localrule: True
        message:
            f"The table is in {RESULTS}/tables/{name}.*"


for name, members in STUDY.groups.items():

    rule:
        name:
            f"table_{name}"
        input:
            expand("{results}/tables/{name}.{kind}", results=RESULTS, name=members, kind=FORMATS["tables"]),
        localrule: True
        message:
            f"The tables are in {RESULTS}/tables/{name}*"


for name in STUDY.figures:

    rule:
        name:
            f"figure_{name}"
        input:
            expand("{results}/figures/{name}.{kind}", results=RESULTS, name=name, kind=FORMATS["figures"]),
        localrule: True
        message:
            f"The figure is in {RESULTS}/figures/{name}.*"
