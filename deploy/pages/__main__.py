"""`python -m deploy.pages` writes the generated parts of docs/ again."""

from deploy.pages import write

for page in write.stale():
    print(f"wrote {page.write()}")
