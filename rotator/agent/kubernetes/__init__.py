"""The Kubernetes sink: a Secret object, and the workloads that use it.

It has its own small client of the API. It needs five calls, each with a time limit, a bounded body and
an error that repeats nothing of the server's text; no library for Kubernetes has all of these.
"""
