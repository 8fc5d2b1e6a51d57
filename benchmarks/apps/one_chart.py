"""A Streamlit app with one plotly bar chart, and a button that draws it anew: to compare our figures and clicks with."""

import plotly.graph_objects as go
import streamlit as st

st.title("One chart")


@st.fragment
def chart() -> None:
    """Bars of one number for each of 40 tokens; a click shifts them."""
    shift = st.session_state.setdefault("shift", 0)
    st.plotly_chart(go.Figure(go.Bar(y=[(7 * i + shift) % 40 for i in range(40)])), key="bars")
    st.button("Shift", on_click=lambda: st.session_state.update(shift=shift + 1))


chart()
