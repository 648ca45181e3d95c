"""Pages and fragments as nudged values: which inputs of a request they were made of.

`page` is ``nudged_page``, `conditional` is ``nudged_condition``. `inputs` names what can be read of
a request, `recording` notes what was read (through the classes of `recording_classes`), and
`template_inputs` does so for a fragment's context. `view_names` names a view, `responses` says
what makes a response personal, and `rendering` lets callers wait for one that is being rendered.
"""
