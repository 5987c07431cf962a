# One table or figure, asked for by its name; it plans the jobs that this one needs and no others.

for name in STUDY.tables:

    rule:
        name:
            f"table_{name}"
        input:
            expand("{results}/tables/{name}.{kind}", results=RESULTS, name=name, kind=FORMATS["tables"]),
        localrule: True
        message:
            f"The table is in {RESULTS}/tables/{name}.*"


for name in STUDY.figures:

    rule:
        name:
            f"figure_{name}"
        input:
            expand("{results}/figures/{name}.{kind}", results=RESULTS, name=name, kind=FORMATS["figures"]),
        localrule: True
        message:
            f"The figure is in {RESULTS}/figures/{name}.*"
