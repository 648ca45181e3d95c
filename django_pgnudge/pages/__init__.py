"""Pages and fragments as nudged values, cached by the inputs that were read from the request.

`page` has ``nudged_page``, `conditional` has ``nudged_condition``. `site` has what
``NudgedSiteMiddleware`` does, with `marks` on views and with `busy_tables`. `cached_page` is the
response to one request. `inputs` defines what can be read from a request. `recording` records what
was read, with the classes of `recording_classes`; `site_inputs` does so from the first middleware
on, and `template_inputs` does so for a fragment's context. `view_names` names a view. `responses`
finds what makes a response personal. `rendering` lets callers wait for a response that is being
rendered.
"""
