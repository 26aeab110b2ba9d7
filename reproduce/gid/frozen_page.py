def write_page(p, t):
    pass
